# shellcheck shell=bash
# Stop where a file that decides the outcome is not there, and say what makes it. Sourced.

# Arguments: files.
need_files() {
  local file cure missing=false
  for file in "$@"; do
    [ ! -f "$file" ] || continue
    case $file in
      */vid.scp) cure="it names the set's videos or pictures; img.scp is not read" ;;
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
