# shellcheck shell=bash disable=SC2034
# Your own films: where are these persons (film_persons) in these films (film_videos)?
# Nothing is downloaded: persons are found by their faces, and those seen from behind are missed.
# Better with a person detector and larger networks, see docs/networks.md:
#   --config-file global_conf/config_film.sh,global_conf/config_w600k_r50.sh \
#   --body-detector yolox_nano_onnx --body-embedder omz_person_reidentification_0277
corpora=film
trial_sets="film_cast:film_candidates"
modalities="face body"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
body_embedder=body_tiny
search_backends=class-mean
search_top=2000
cast_backends="original propagation calibrated"
