# shellcheck shell=bash
# Stop where a file that decides the outcome is not there, and say what makes it. Sourced.

# Arguments: files.
need_files() {
  local file cure missing=false
  for file in "$@"; do
    [ ! -f "$file" ] || continue
    case $file in
      */vid.scp) cure="it names the set's videos or pictures" ;;
      */trials | */spk2utt) cure="run ./run_001_prepare_data.sh, or write it" ;;
      */face_models/*) cure="run ./run_000_get_pretrained_models.sh" ;;
      */face_det/*) cure="run ./run_002_detect_faces.sh" ;;
      */face_embed/*) cure="run ./run_003_extract_embeddings.sh" ;;
      *_scores) cure="run ./run_004_score.sh with that system, or mend its name" ;;
      *) cure="put it there" ;;
    esac
    echo "$0: there is no $file; $cure" >&2
    missing=true
  done
  [ $missing = false ] || exit 1
}

# Stop where a set has no embeddings, or they are of other faces than stage 2's, by the hashes that stage 3 noted. Faces that
# are not there at all are none of its business. Arguments: the set's folders of embeddings and of faces.
need_embeddings() {
  local file hash
  if [ ! -f "$1/record.json" ]; then
    echo "$0: no embeddings in $1; run run_003_extract_embeddings.sh with the set in trial_sets first" >&2
    exit 1
  fi
  for file in faces.ark quality.ark status; do
    [ -f "$2/$file" ] || continue
    hash=$(sha256sum < "$2/$file")
    if ! grep -q "/$file\": \"${hash%% *}\"" "$1/record.json"; then
      echo "$0: $1 is of other faces than those in $2: stage 2 was made anew, or detector is another one;" \
        "run ./run_003_extract_embeddings.sh with --force true first" >&2
      exit 1
    fi
  done
}
