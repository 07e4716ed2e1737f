# What `helm test` does: every part answers, none answers a stranger, and who logs in is served.
set -u
failed=0

expect() { # expect STATUS WHAT URL [WGET OPTIONS...]
  wanted=$1 what=$2 url=$3
  shift 3
  got=$(wget -S -T 10 -O /tmp/body "$@" "$url" 2>&1 | sed -n 's/.*HTTP\/1\.[01] \([0-9]*\).*/\1/p' | tail -n 1)
  if [ "$got" = "$wanted" ]; then echo "ok      $what: $got"; else echo "FAILED  $what: ${got:-no answer}, not $wanted"; failed=1; fi
}

# A new pod may not be reached at once by everyone.
tries=0
until wget -q -T 5 -O /dev/null "$GATEWAY/readyz"; do
  tries=$((tries + 1))
  [ "$tries" -lt 30 ] || break
  sleep 2
done

expect 200 "gateway is ready" "$GATEWAY/readyz"
expect 401 "gateway asks for a token" "$GATEWAY/v1/models"
if [ -n "$MLFLOW" ]; then
  expect 200 "MLflow answers" "$MLFLOW/health"
  expect 401 "MLflow asks for a password" "$MLFLOW/api/2.0/mlflow/registered-models/search"
fi
if [ -n "$IDENTITY" ]; then
  expect 200 "identity answers" "$IDENTITY/.well-known/openid-configuration" --header "Host: $IDENTITY_HOST"
fi
if [ -n "${PASSWORD:-}" ]; then
  form="grant_type=password&client_id=$CLIENT&username=$ACCOUNT&password=$PASSWORD&scope=openid%20profile%20email%20groups"
  expect 200 "login of $ACCOUNT" "$IDENTITY/oauth/token" --header "Host: $IDENTITY_HOST" --post-data "$form"
  token=$(sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p' /tmp/body)
  expect 200 "gateway serves $ACCOUNT" "$GATEWAY/v1/models" --header "Authorization: Bearer $token"
  if [ -n "$MODEL" ]; then
    expect 200 "prediction of $MODEL" "$GATEWAY/v1/models/$MODEL/predictions" --header "Authorization: Bearer $token" \
      --header "Content-Type: application/json" --post-data "{\"instances\": [$INSTANCE]}"
    cat /tmp/body
  fi
fi
exit "$failed"
