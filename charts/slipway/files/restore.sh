# Puts back the backup named by BACKUP, the newest one when it is empty. Each database as a whole or not at all.
set -eu
if [ -z "${BACKUP:-}" ]; then
  for folder in /backup/[0-9]*Z; do BACKUP=$(basename "$folder"); done # in the order of time
fi
cd "/backup/$BACKUP"
sha256sum --check --quiet SHA256SUMS

connect() { # connect DATABASE PROGRAM ARGUMENTS...: as the database's owner
  database=$1 program=$2
  shift 2
  PGUSER=$(cat "/etc/slipway/roles/$database/username") PGPASSWORD=$(cat "/etc/slipway/roles/$database/password") \
    "$program" --dbname="$(cat "/etc/slipway/backup/$database.url")" "$@"
}

others='SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()'
for database in slipway mlflow identity; do
  if [ "$(connect "$database" psql --no-psqlrc --tuples-only --no-align --command="$others")" != 0 ]; then
    echo "someone is connected to $database: scale gateway, controller, mlflow and identity to 0 first" >&2
    exit 1
  fi
done

for database in slipway mlflow identity; do
  # One transaction. When pg_restore fails, COMMIT is never said.
  {
    echo 'SET client_min_messages = warning; BEGIN; DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
    pg_restore --no-owner --no-privileges --file=- "$database.dump" && echo 'COMMIT;'
  } | connect "$database" psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output=/dev/null
  echo "restored $database"
done

if [ -f artifacts.tar ]; then
  find /mlflow -mindepth 1 -delete
  tar --extract --file=artifacts.tar --directory=/mlflow
  echo "restored the artifacts"
fi
echo "restored backup $BACKUP"
