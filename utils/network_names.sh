# shellcheck shell=bash
# Check that options name networks as folders of exp/face_models are called. Sourced after utils/parse_options.sh:
#
#   . ./utils/network_names.sh face_detector face_embedder

for option in "$@"; do
  case ${!option} in
    "") echo "$0: $option is empty; expected the name of an installed network" >&2; exit 1 ;;
    */* | *.yaml)
      echo "$0: $option: expected the name of an installed network, found the path '${!option}';" \
        "stage 0 takes the path of a card, and from then on it is called $(basename "${!option}" .yaml)" >&2
      exit 1
      ;;
  esac
done
