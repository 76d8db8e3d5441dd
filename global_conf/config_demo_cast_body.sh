# shellcheck shell=bash disable=SC2034
# The body embedder that config_demo_cast.sh trains, for stages 0 and 3.
modalities=body
body_embedder=demo_cast
