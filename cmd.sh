# shellcheck shell=bash
# The launchers of job arrays: programs that take [options] JOB=1:N log/x.JOB.log command ...
# Source it before utils/parse_options.sh. The stages run `$cmd`, whose default is $train_cmd and which the
# config or --cmd sets for one run; stages that train on a GPU run `$cuda_cmd`. Both may carry options.
#
#   one machine              train_cmd=utils/run.py                               jobs in parallel, one per core
#   Slurm, Kaldi's slurm.pl  train_cmd="slurm.pl --mem 4G"                        cuda_cmd="slurm.pl --gpu 1"
#   SGE, Kaldi's queue.pl    train_cmd="queue.pl --mem 4G -q all.q"               cuda_cmd="queue.pl --gpu 1 -q gpu.q"
#   its own settings file    train_cmd="queue.pl --config global_conf/queue.conf"

export train_cmd=${train_cmd:-utils/run.py}
export cuda_cmd=${cuda_cmd:-utils/run.py}
