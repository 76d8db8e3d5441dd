# shellcheck shell=bash disable=SC2034
# A small corpus of films that run_demo.sh makes: where is each member of the cast? Every stage in
# some minutes, with the small networks. It trains the body embedder demo_cast on four films, and
# searches three others with it and with the body network that ships.
demo_stages="0 1 2 2:demo_cast_train 13:train_demo_cast 0:demo_cast_body 3 3:demo_cast_body 4 5"
corpora=demo_cast
modalities="face body"
trial_sets="csm_val_cast:csm_val_candidates"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
body_embedder=body_tiny
contact_sheet=true
search_backends=class-mean
search_top=2000
cast_backends="original propagation calibrated"
cast_embedders="face/arcface_tiny body/body_tiny body/demo_cast"
