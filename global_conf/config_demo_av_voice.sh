# shellcheck shell=bash disable=SC2034
# The voice network that config_demo_av.sh trains, for stages 0, 3, 4 and 5.
modalities=speaker
speaker_embedder=demo_av
calibration_set=
quality_measures=
fusion_systems=
