# shellcheck shell=bash disable=SC2034
# Corpora: NIST SRE19 AV (visual) and Janus CORE, which are the defaults. As in the published
# recipe, every segment with too few faces takes lower thresholds. With other networks:
#   --config-file global_conf/config_r100.sh,global_conf/config_sre19.sh
det_fallback=always
