# shellcheck shell=bash disable=SC2034
# Every variable of the recipe with its default. utils/parse_options.sh reads this file first, then the config
# (--config-file), then the command line, where detector=x is written --detector x and max_size=x --max-size x.
# The comment after a value is the text that --help shows. Switches are true or false.

config_file=global_conf/config_glint360k_r100.sh  # config that is read over these defaults

# what to work on
corpora="sre19_av_v janus_core"  # corpora to prepare: folders of local/
sre19_dev_dir=                   # SRE19 AV development set as distributed, for local/sre19_av_v
sre19_eval_dir=                  # SRE19 AV evaluation set as distributed, for local/sre19_av_v
sre21_dev_dir=                   # SRE21 development set as distributed, for local/sre21_av_v
sre21_eval_dir=                  # SRE21 evaluation set as distributed, for local/sre21_av_v
sre21_partitions=gender          # columns of its key that split the trials into partitions of equal weight; empty: none
janus_dir=                       # Janus CORE as distributed, for local/janus_core
folder_persons=                  # folder with one folder of photos or videos per person, for local/folder
folder_videos=                   # folder of the videos to look into, for local/folder
folder_key=                      # who is in which video, where known; may stay empty, for local/folder
trial_sets="sre19_av_v_dev_enroll:sre19_av_v_dev_test sre19_av_v_eval_enroll:sre19_av_v_eval_test"  # <enrolment set>:<test set> to compare
trial_sets+=" janus_dev_enroll:janus_dev_test_core janus_eval_enroll:janus_eval_test_core"
data_dir=data                    # folder of the data sets
exp_dir=exp                      # folder of everything that the stages compute
model_dir=                       # folder with model files put there by hand; empty: VIDPERSON_MODEL_DIR

# how to run
cmd=${train_cmd:-utils/run.py}   # launcher of job arrays, see cmd.sh; what runs on a GPU takes cuda_cmd from there
nj=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)  # jobs that a set is split into, by default the CPU cores
threads=1                        # threads per job
engine=auto                      # what runs the networks: auto, openvino, onnxruntime, torch or mxnet (docs/engines.md)
device=cpu                       # where it runs them: cpu, cuda or cuda:<number>
precision=fp32                   # what it computes in: fp32, bf16 or fp16; stages 2 and 3 compare a sample with fp32

# stage 2, faces in videos
detector=retinaface_mnet025_pytorch  # detection network: a folder of exp/face_models
fps=1                            # frames per second of video that are looked at
max_size=800                     # longer side, in pixels, to which larger frames are shrunk for the detector
det_batch=1                      # frames per run of the detection network; on a CPU one is fastest and smallest
det_scales=                      # sizes that the detector looks at, as factors of that size, e.g. "0.5 1 1.5"; empty: 1
det_mirror=false                 # let the detector look at the mirror image of each frame, too
det_threshold=0.9                # score from which a detection is a face
nms_threshold=0.4                # overlap (IoU) from which the lower scored of two detections is dropped
min_faces=1                      # faces a segment must give; with fewer, det_threshold is lowered in steps of 0.1
det_window=                      # frames around a labelled time; empty: as face_boundingbox_conf of the set says
max_centre_distance=1.0          # how far a face's centre may be from the label's, in diagonals of the label
discard_low_quality=false        # of a segment's faces keep the large ones with little black border
max_pixels=100000000             # larger frames and pictures are refused: their segment is unreadable
max_duration_s=86400             # so are videos that last longer, by their header; others end there as damaged
segment_timeout_s=3600           # seconds after which a segment is given up as unreadable; 0: never
contact_sheet=false              # write a picture of the faces found per segment, for a look by eye

# stage 3, faces to embeddings
embedder=arcface_glint360k_r100  # embedding network: a folder of exp/face_models
embed_batch=16                   # crops per run of the embedding network
embed_mirror=                    # mirrored crops, too: none, concatenate or sum; empty: as the network's card says

# stage 4, scores
backends=max                     # ways to compare: max mean median ahc-test ahc selfatt-test xatt selfatt-all selfatt norm-mean track
snorm_cohort=                    # set whose faces normalise scores, e.g. janus_dev_test_core; empty: plain scores only
ncoh=1000                        # faces of it that normalise a score, those with the best scores
ncoh_discard=0                   # still better ones left out before these, since they may show the person
thr_ahc=0.8                      # average cosine down to which faces are clustered (ahc-test, ahc)
mem_gb=4                         # memory of scoring, GiB; changes no score
calibration_set=                 # test set whose scores and key train calibration and fusion, e.g. sre19_av_v_dev_test; empty: none
fusion_systems=                  # what to fuse: names below exp/scores/<embedder>, or paths of other score folders; empty: none
max_systems=5                    # most systems that the fusion may choose

# stage 5, evaluation
priors="0.05 0.01 0.005 0.001"   # target priors of the detection costs
primary_cost=sre19               # C_primary of which evaluation: sre19 (prior 0.05) or sre21 (mean of 0.01 and 0.05); selects systems in the fusion, too

# stage 10, training a face embedder; stage 11, training a face detector, has other defaults for some
train_name=face_r18              # name of the network that is trained: a folder of exp/face_train
train_data=                      # folders or tars of <identity>/<picture>, <crops.tar>:<utt2spk>, VoxCeleb2 folders;
                                 # for a detector, of photos
train_architecture=iresnet18     # iresnet18, iresnet34, iresnet50, iresnet100, mobilefacenet or small_resnet
train_embedding_size=512         # values of an embedding
train_loss=arcface               # arcface (AAM-softmax), cosface, softmax, or none: from the teacher alone
train_scale=64                   # s of arcface and cosface
train_margin=0.4                 # m of arcface, in radians, and of cosface
train_sub_centres=1              # centres per identity, of which the nearest counts; 3 for noisy labels
train_sample_rate=1              # share of the identities that each step looks at (partial FC); below 1 for 100,000s
train_augment="mirror=0.5"       # how often each is done, 0..1: mirror jitter colour grey blur motion dark scale jpeg cutout mix
train_batch=400                  # crops per step, all GPUs together
train_epochs=40                  # passes over the data
train_optimiser=adam             # adam, adamw, muon or sgd
train_lr=0.001                   # learning rate
train_weight_decay=0             # decay of the weights per step, times the rate
train_schedule=step              # step: times train_decay every train_decay_epochs; cosine: to 0
train_decay=0.97                 # factor of the step schedule
train_decay_epochs=1             # epochs between its steps
train_warmup_epochs=0            # epochs in which the rate rises linearly
train_clip=0                     # largest norm of the gradient; 0: any
train_ema=0                      # running average of the weights that is kept: share of the past, e.g. 0.999
train_precision=fp32             # fp32, or autocast to bf16 or fp16
train_teacher=                   # network to imitate: a folder of exp/face_models; empty: none
train_cosine_weight=1            # weight of: embeddings like the teacher's
train_relation_weight=1          # weight of: cosines between the crops of a batch like the teacher's
train_init=                      # best.pt of an earlier run whose weights to start from; empty: random ones
train_gpus=0                     # GPUs to train on; 0: the CPU
train_processes=1                # processes that share each batch on the CPU; faster than as many threads of one
train_workers=4                  # processes per GPU, or process, that load pictures
train_threads=$nj                # CPU threads of the networks, by default the CPU cores
train_seed=0                     # seed of everything random, below 2^32
train_valid_epochs=1             # epochs between validations
train_save_steps=500             # steps between checkpoints within an epoch
train_licence="none stated"      # licence of the network that is trained, for its card
train_half_weights=false         # whether the exported network's weights are stored in 16 bits, half the size
valid_pictures=                  # folder or tar of aligned faces to measure each epoch on; empty: no validation
valid_pairs=                     # pairs of them: LFW's list, or <picture> <picture> target|nontarget
valid_threshold_pairs=           # other pairs, of which the threshold is learnt (LFW View 1: DevTrain)
train_annotations=               # detector: marked faces, as WIDER FACE with RetinaFace's landmarks; empty: teacher alone
train_sizes="256 320 448"        # detector: sides of the training pictures, of which each step takes one
train_held_out=0                 # detector: photos of train_data, spread evenly, to validate on instead of training
valid_data=                      # detector: folders or tars of other photos to measure each epoch on
valid_annotations=               # detector: the faces marked in those
