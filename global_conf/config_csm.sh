# shellcheck shell=bash disable=SC2034
# WIDER Person Search, CSM (csm_dir): which persons of a film are this cast member? Portraits are
# compared with faces, and the persons that are found so with others by their clothes. Of the parts
# that you have, name the sets in trial_sets. With larger networks:
#   --config-file global_conf/config_csm.sh,global_conf/config_w600k_r50.sh \
#   --body-embedder omz_person_reidentification_0277
corpora=csm
modalities="face body"
trial_sets="csm_val_cast:csm_val_candidates csm_test_cast:csm_test_candidates"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
body_embedder=body_tiny
max_size=1920        # frames in full: faces of persons in the background are small
search_backends=class-mean   # each modality by itself, to compare with
search_top=2000      # all candidates of a film: the answer lists them, and so does the mAP
cast_backends="original propagation calibrated"
