# shellcheck shell=bash disable=SC2034,SC2154
# The options that every training has, with their defaults. Those of one training are at the top of
# its script. utils/parse_options.sh reads this file for run_01x_train_*.sh, after defaults.sh.

## Training: data
train_data=                  # what to train on, see the top of the script; several with spaces
train_teacher=               # installed network to imitate; embedders may have several
train_teacher_weights=       # of embedders: weight of each; empty: all alike, 1 in all
train_cosine_weight=1.0      # [>=0] of embedders: weight of: embeddings like the teacher's
train_relation_weight=1.0    # [>=0] of embedders: weight: cosines in a batch like the teacher's
train_init=                  # best.pt of another training to start from; empty: random weights
train_licence="none stated"  # licence of the trained network, for its card
train_half_weights=false     # true: export the weights with 16 bits, half the size

## Training: optimisation
train_epochs=40              # [>=1] passes over the data
train_optimiser=adam         # [adam|adamw|muon|sgd] how the weights are updated
train_lr=0.001               # [>0] learning rate
train_weight_decay=0.0       # [>=0] decay of the weights per step, times the rate
train_schedule=step          # [step|cosine] step: times train_decay after epochs; cosine: to 0
train_decay=0.97             # [>0] factor of the step schedule
train_decay_epochs=1         # [not empty] epochs between its steps; "30 35": steps after these
train_warmup_epochs=0.0      # [>=0] epochs in which the rate rises linearly
train_clip=0.0               # [>=0] largest norm of the gradient; 0: any
train_ema=0.0                # [0..1] running average of the weights: share of the past, below 1
train_average=0              # [>=0] last epochs, the mean of which is the network; 0: none
train_seed=0                 # [0..4294967295] seed of everything random
train_valid_epochs=1         # [>=1] epochs between validations
train_save_steps=500         # [>=1] steps between checkpoints within an epoch

## Training: speed
train_precision=fp32         # [fp32|bf16|fp16] autocast to 16 bits
train_gpus=0                 # [>=0] GPUs to train on; 0: the CPU
train_processes=1            # [>=1] processes that share each batch on the CPU
train_workers=4              # [>=0] processes per GPU, or per process, that load data
train_threads=$cpu_cores     # [>=1] CPU threads of the networks; default: the CPU cores
