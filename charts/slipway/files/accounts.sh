# Makes MLflow's account for those who only read, once. MLflow has no command for that, but its administrator may ask for it.
set -eu
basic() { printf '%s:%s' "$1" "$2" | base64 | tr -d '\n'; }
ask() { wget -q -T 10 -O - --header "Authorization: Basic $1" "$MLFLOW_TRACKING_URI/api/2.0/mlflow/$2" ${3:+--header "Content-Type: application/json" --post-data "$3"}; }
admin=$(basic "$ADMIN_USERNAME" "$ADMIN_PASSWORD")
reader=$(basic "$READER_USERNAME" "$READER_PASSWORD")

until wget -q -T 5 -O /dev/null "$MLFLOW_TRACKING_URI/health"; do sleep 1; done
if ask "$reader" "users/current" >/dev/null; then
  echo "$READER_USERNAME is there"
  exit
fi
ask "$admin" users/create "{\"username\": \"$READER_USERNAME\", \"password\": \"$READER_PASSWORD\"}" >/dev/null
echo "made $READER_USERNAME"
