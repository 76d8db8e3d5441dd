# shellcheck shell=bash
# The launchers of job arrays: programs that take [options] JOB=1:N log/x.JOB.log command ...
# Source it before utils/parse_options.sh. The stages run `$cmd`, whose default is $train_cmd and which the
# config or --cmd sets for one run; stages that use a GPU run `$cuda_cmd`. Both may have options.
# global_conf/grid/{slurm,sge}.conf say what the options ask the grid for; docs/grid.md has the rest.
#
#   one machine   train_cmd=utils/run.py                              jobs in parallel, one per core
#                 cuda_cmd="utils/run.py --max-jobs-run 1"            one GPU
#   Slurm         train_cmd="utils/slurm.py --mem 4G --retries 1"
#                 cuda_cmd="utils/slurm.py --mem 8G --gpu 1 -p gpu"   with the site's partition
#   SGE           train_cmd="utils/queue.py --mem 4G --retries 1 -q all.q"
#                 cuda_cmd="utils/queue.py --mem 8G --gpu 1 -q gpu.q" with the site's queue
#
# Kaldi's run.pl, slurm.pl and queue.pl work as well.

export train_cmd=${train_cmd:-utils/run.py}
export cuda_cmd=${cuda_cmd:-utils/run.py}
