# shellcheck shell=bash disable=SC2034,SC2154
# Every option of stages 0 to 5 with its default. The options of trainings are in train_defaults.sh.
#
# Precedence: command line > config files (--config-file) > this file. On the command line
# max_size=800 is --max-size 800. --help shows the comments after the values. The top of
# utils/parse_options.sh explains the headings and the brackets.

## Data
config_file=global_conf/config_glint360k_r100.sh  # [not empty] configs to read: a.sh, or a.sh,b.sh
data_dir=data                # [folder] folder of the data sets
exp_dir=exp                  # [folder] folder of everything that the stages compute

## Data (stages 0 1 2 3 4 5 15)
modalities=face              # what persons are recognised by: folders steps_<modality>

## Data (stage 1)
corpora="sre19_av_v janus_core"  # corpora to prepare: folders of local/

## Data (stages 1 2 3 4 5)
trial_sets="sre19_av_v_dev_enroll:sre19_av_v_dev_test"  # <enrolment set>:<test set>; a+b:c to search
trial_sets+=" sre19_av_v_eval_enroll:sre19_av_v_eval_test"
trial_sets+=" janus_dev_enroll:janus_dev_test_core janus_eval_enroll:janus_eval_test_core"

## Data (stages 4 5 15)
experiment=                  # name of the results; empty: the names of the configs, joined by +

## Corpus sre19_av_v (stage 1)
sre19_dev_dir=               # SRE19 AV development set as distributed
sre19_eval_dir=              # SRE19 AV evaluation set as distributed

## Corpus sre21_av_v (stage 1)
sre21_dev_dir=               # SRE21 development set as distributed
sre21_eval_dir=              # SRE21 evaluation set as distributed
sre21_partitions=gender      # columns of its key that split the trials evenly; empty: none

## Corpus janus_core (stage 1)
janus_dir=                   # Janus CORE as distributed

## Corpus folder (stages 1 who)
folder_persons=              # one folder of photos or videos per person
folder_videos=               # videos to search
folder_key=                  # who is in which video, where known

## Corpus iqiyi_vid (stage 1)
iqiyi_vid_dir=               # iQIYI-VID of 2018 or 2019, or iQIYI-VID-FACE
iqiyi_vid_key=               # its key of the test clips, a list as val_gt.txt

## Corpus voxceleb (stage 1)
voxceleb1_dir=               # VoxCeleb1 with AVCleanse's lists
voxceleb2_dir=               # VoxCeleb2 with AVCleanse's lists

## Corpus talking (stage 1)
talking_test=                # one folder of talking videos per person, to compare
talking_train=               # likewise, of other persons, to train on; may be empty

## Corpus csm (stage 1)
csm_dir=                     # WIDER Person Search (CSM): lists and folders of images

## Corpus film (stage 1)
film_videos=                 # videos to search, or a folder of images per film
film_persons=                # one folder of portraits per person
film_key=                    # which candidates show whom, where known
film_frames=3                # [>=1] key frames per shot
film_longest_s=20.0          # [>0] a longer shot counts as several (seconds)
film_timeout_s=21600.0       # [>=0] give up a film after this (seconds); 0: never

## Corpus clips (stage 1)
clips_persons=               # one folder of videos per person, to learn from
clips_search=                # videos to search
clips_strangers=             # videos of other people, to learn from; may be empty
clips_key=                   # who is in which searched video, where known
clips_valid=0.0              # [0..1] share of each person's videos to validate on

## How to run (stage demo)
demo_stages="0 1 2 3 4 5"    # what run_demo.sh runs; 14:train_x reads config_train_x.sh, too

## How to run (stages 2 3 4 5 10 11 14 15)
cmd=${train_cmd:-utils/run.py}  # [not empty] launcher of jobs, see cmd.sh; on GPUs: cuda_cmd

## How to run (stages 2 3 4 15)
force=false                  # true: recompute what is done, or was begun with other options

## How to run (stages 2 3)
nj=$cpu_cores                # [>=1] jobs that a set is split into; default: the CPU cores
threads=1                    # [>=1] CPU threads per job

## How to run (stages 0 1 2 3 10 11 14)
engine=auto                  # [auto|openvino|onnxruntime|torch|mxnet] what runs the networks

## How to run (stages 2 3)
device=cpu                   # [cpu|cuda|cuda:N] where the networks run
precision=auto               # [auto|fp32|bf16|fp16] auto: bf16 where card and CPU allow it

## How to run (stage 0)
model_dir=                   # folder of downloaded network files; empty: VIDPERSON_MODEL_DIR

## Video (stages 1 2)
max_pixels=100000000         # [>=1] larger frames and images are refused as unreadable
max_duration_s=86400.0       # [>0] longer videos are refused as unreadable (seconds)

## Video (stages 2 4 who)
fps=1.0                      # [>0] frames per second of video that are searched

## Video (stage 2)
frames=uniform               # [uniform|fast] which: fps; or key frames, others only where needed
longest_gap_s=12.0           # [>0] fast: search between key frames further apart (seconds)
second_look=5                # [>=0] frames of short videos to search if none shows a sure face
segment_timeout_s=3600.0     # [>=0] give up a segment after this (seconds); 0: never
decoder=software             # [software|cuda] what decodes videos; cuda: an NVIDIA GPU
contact_sheet=false          # true: write an image of the faces found per segment

## Face (stages 0 1 2 3 4 5 14 15)
face_detector=retinaface_mnet025_pytorch  # detection network, a folder of exp/face_models

## Face (stages 1 2)
max_size=800                 # [>=1] longest side of the detector's input, in pixels
det_threshold=0.9            # [>0..1] lowest score of a face

## Face (stage 2)
det_batch=1                  # [>=1] frames per call of the detector; on a CPU 1 is fastest
det_scales=                  # factors of that size to search at, e.g. "0.5 1 1.5"; empty: 1
det_mirror=false             # true: search the mirror image of each frame, too
nms_threshold=0.4            # [>0..1] overlap (IoU) from which the weaker detection is dropped
min_faces=1                  # [>=0] faces that a segment needs, see det_fallback
det_fallback=labelled        # [labelled|always|never] with fewer faces, take scores down to 0.1
det_window=                  # [>=1] frames around a labelled time; empty: as the set says
max_centre_distance=1.0      # [>=0] from face to label, in diagonals of the label
face_per_region=false        # true: search each box of `region`, at five sizes
aligned_faces=0              # [>=0] of frames.scp: images per segment, at equal steps; 0: all
discard_low_quality=false    # true: keep a segment's large faces with little black border

## Face (stages 0 3 4 5 14 15)
face_embedder=arcface_glint360k_r100  # embedding network, a folder of exp/face_models

## Body (stages 0 1 2 15)
body_detector=               # detector, a folder of exp/body_models; empty: boxes are given

## Body (stages 1 2)
person_threshold=0.5         # [>0..1] lowest score of a person
person_nms_threshold=0.45    # [>0..1] overlap (IoU) from which the weaker person is dropped

## Body (stages 0 3 4 5 15)
body_embedder=omz_person_reidentification_0277  # embedding network, a folder of exp/body_models

## Speaker (stages 2 3 4 5)
speaker_detector=            # [energy] what finds speech; empty: the whole sound is speech

## Speaker (stage 2)
speaker_shortest_s=0.3       # [>=0] seconds of sound that a segment needs

## Speaker (stages 2 3)
speaker_window_s=0.0         # [>=0] who talks when: a row per so many seconds of speech; 0: no

## Speaker (stages 0 3 4 5)
speaker_embedder=ecapa_tiny  # embedding network, a folder of exp/speaker_models

## Speaker (stage 3)
speaker_crops=0              # [>=0] crops of 3 s that are embedded, too; the ECAPA recipe: 5
speaker_longest_s=60.0       # [>0] longer speech is embedded in equal parts, by their mean

## Embeddings (stage 3)
embed_batch=16               # [>=1] items per call of the embedder, such as faces
embed_mirror=                # [none|concatenate|sum] mirrored items; empty: as the card says

## Scores and evaluation (stages 4 5)
backends=max                 # ways to compare, e.g. "max whole whole-crops": see docs/metrics.md
submean_set=                 # set with the mean to subtract in further systems; empty: none
snorm_cohort=                # set that normalises scores, e.g. janus_dev_test_core; empty: none
cohort_of=items              # [items|segments|persons] what of it: its items, or means of these
ncoh=                        # [>=1] those per score, the best; empty: 1000 items or 300 means
ncoh_discard=0               # [>=0] left out before these: they may show the person
thr_ahc=0.8                  # [-1..1] average cosine down to which faces are clustered (ahc)
mem_gb=4.0                   # [>0] memory for scoring (GiB); changes no score
calibration_set=             # test set with a key to calibrate and fuse on; empty: none
quality_measures=            # for a second calibration: items duration snr norm cohort; or empty
fusion_systems=              # systems or other score folders to fuse; empty: none
fusion_methods=logistic      # ways to fuse them: mean, logistic, quality, or several of them
max_systems=5                # [>=1] most systems in the fusion
search_backends="class-mean class-mean-whitened"  # ways to search: see docs/metrics.md
identifiers=                 # identifiers to search with: folders of exp/<modality>_train
search_fusion=               # back-ends and identifiers to fuse; empty: none
search_top=100               # [>=1] segments listed per model of a search
search_persons=5             # [>=1] models listed per segment of a search
cast_backends=               # to search films: original propagation calibrated; empty: none
cast_embedders=              # for these, "<modality>/<embedder> ..."; empty: of each modality
cast_rerank=                 # in original: identity, appearance or both, identity:ecn; empty: no
false_alarm_rate=0.01        # [>0..1] wished share of strangers named, by the calibration set
primary_cost=sre19           # [sre19|sre21] C_primary: prior 0.05, or the mean of 0.01 and 0.05

## Scores and evaluation (stages 4 5 14 15)
link_cosine=0.3              # [-1..1] lowest cosine of successive faces of a track, in a search

## Who is where (stages 1 4 5)
find_persons=false           # true: answer who is in each video of the test sets, and when

## Who is where (stages 4 who)
person_prior=0.5             # [>0..1] prior that somebody in a video has a portrait
min_probability=0.8          # [>0..1] lowest probability of the decision yes
unsure_probability=0.5       # [>0..1] lowest, of all persons together, for unsure

## Who is where (stages 5 who)
annotate=false               # true: copy each video with boxes and names drawn in

## Scores and evaluation (stage 5)
priors="0.05 0.01 0.005 0.001"  # target priors of the detection costs
report_note=                 # words below the title of the report; empty: none
