# shellcheck shell=bash disable=SC2034
# Every variable of the recipe with its default. utils/parse_options.sh reads this file first, then the config
# (--config-file), then the command line, where detector=x is written --detector x and max_size=x --max-size x.
# The comment after a value is the text that --help shows. Switches are true or false.

config_file=global_conf/config_r100.sh  # config that is read over these defaults

# what to work on
corpora="sre19_av_v janus_core"  # corpora to prepare: folders of local/
sre19_dev_dir=                   # SRE19 AV development set as distributed, for local/sre19_av_v
sre19_eval_dir=                  # SRE19 AV evaluation set as distributed, for local/sre19_av_v
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
cmd=${train_cmd:-utils/run.py}   # launcher of job arrays, see cmd.sh
nj=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)  # jobs that a set is split into, by default the CPU cores
threads=1                        # threads per job
engine=openvino                  # what runs the networks: openvino or onnxruntime
device=cpu                       # where it runs them

# stage 2, faces in videos
detector=retinaface_mnet025_pytorch  # detection network: a folder of exp/face_models
fps=1                            # frames per second of video that are looked at
max_size=800                     # longer side, in pixels, to which larger frames are shrunk for the detector
det_batch=1                      # frames per run of the detection network; on a CPU one is fastest and smallest
det_threshold=0.9                # score from which a detection is a face
nms_threshold=0.4                # overlap (IoU) from which the lower scored of two detections is dropped
min_faces=1                      # faces a segment must give; with fewer, det_threshold is lowered in steps of 0.1
det_window=                      # frames around a labelled time; empty: as face_boundingbox_conf of the set says
max_centre_distance=1.0          # how far a face's centre may be from the label's, in diagonals of the label
discard_low_quality=false        # of a segment's faces keep the large ones with little black border
contact_sheet=false              # write a picture of the faces found per segment, for a look by eye

# stage 3, faces to embeddings
embedder=arcface_glint360k_r100  # embedding network: a folder of exp/face_models
embed_batch=16                   # crops per run of the embedding network

# stage 4, scores
backend=max                      # how the embeddings of a model and of a segment become one score

# stage 5, evaluation
priors="0.05 0.01 0.005 0.001"   # target priors of the detection costs
