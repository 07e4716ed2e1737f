# Restore the backup named by BACKUP, the newest one when it is empty.
#
# Databases and artifacts are restored beside the current ones and exchanged with them at the end: until then, and after a
# failure, the current ones are unchanged. The next run removes the rest of an interrupted one.
set -euo pipefail
backups=${BACKUPS:-/backup} settings=${SETTINGS:-/etc/slipway} artifacts=${ARTIFACTS:-/mlflow}
databases="slipway mlflow identity"

if [ -z "${BACKUP:-}" ]; then
  for folder in "$backups"/[0-9]*Z; do BACKUP=$(basename "$folder"); done # in the order of time
fi
cd "$backups/$BACKUP"
sha256sum --check --quiet SHA256SUMS

run_as() { # run_as FOLDER URL PROGRAM ARGUMENTS...: with the username and the password in the folder
  PGUSER=$(cat "$1/username") PGPASSWORD=$(cat "$1/password") "$3" --dbname="$2" "${@:4}"
}
url() { # url DATABASE [NAME]: of DATABASE, or of another one on its server
  local found
  found=$(cat "$settings/backup/$1.url")
  case "${2:+$found}" in
    "") echo "$found" ;;
    *\?*) echo "$found&dbname=$2" ;;
    *) echo "$found?dbname=$2" ;;
  esac
}
owner() { # owner DATABASE NAME PROGRAM ARGUMENTS...: as the owner of DATABASE
  run_as "$settings/roles/$1" "$(url "$1" "$2")" "${@:3}"
}
administrator() { # the same, as the role that may create databases: the administrator's, or else the owner
  local folder=$settings/administrator
  [ -e "$folder/username" ] || folder=$settings/roles/$1
  run_as "$folder" "$(url "$1" "$2")" "${@:3}"
}
sql() { # sql DATABASE: statements from standard input, by the administrator
  administrator "$1" postgres psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output=/dev/null
}
exchange() { # exchange DATABASE OUT IN: rename the database to OUT, and the one named IN to the database's name
  sql "$1" <<SQL
BEGIN;
ALTER DATABASE "${names[$1]}" RENAME TO "$2";
ALTER DATABASE "$3" RENAME TO "${names[$1]}";
COMMIT;
SQL
}
move() { # move FROM TO: the content of a folder, without special folders
  find "$1" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name .restored ! -name .replaced -exec mv --target-directory="$2" -- {} +
}

declare -A names=()
others='SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()'
for database in $databases; do
  if [ "$(owner "$database" "" psql --no-psqlrc --tuples-only --no-align --command="$others")" != 0 ]; then
    echo "someone is connected to $database: scale gateway, worker, controller, mlflow and identity to 0 first; nothing was changed" >&2
    exit 1
  fi
  names[$database]=$(owner "$database" "" psql --no-psqlrc --tuples-only --no-align --command='SELECT current_database()')
done

exchanged=""
finish() {
  status=$?
  trap - EXIT
  if [ "$status" != 0 ]; then
    for database in $exchanged; do
      exchange "$database" "${names[$database]}_restored" "${names[$database]}_replaced"
    done
  fi
  for database in $databases; do
    echo "SET client_min_messages = warning; DROP DATABASE IF EXISTS \"${names[$database]}_restored\";" | sql "$database"
  done
  rm -rf "$artifacts/.restored"
  exit "$status"
}
trap finish EXIT

for database in $databases; do
  name=${names[$database]}
  echo "SET client_min_messages = warning;
    DROP DATABASE IF EXISTS \"${name}_restored\"; DROP DATABASE IF EXISTS \"${name}_replaced\";" | sql "$database"
  # An empty database with encoding, owner, settings and privileges of the current one, as pg_dump writes them.
  administrator "$database" "" pg_dump --create --schema-only --exclude-schema='*' |
    grep -E '^(CREATE|ALTER|COMMENT|GRANT|REVOKE) (.* )?DATABASE ' |
    sed -E "s/ DATABASE \"?$name\"? / DATABASE \"${name}_restored\" /" |
    sql "$database" || {
    echo "no database can be created beside $database; nothing was changed. Let its role (or that of backup.administratorSecret)" \
      "create databases: ALTER ROLE … CREATEDB" >&2
    exit 1
  }
  owner "$database" "${name}_restored" pg_restore --no-owner --no-privileges --single-transaction --exit-on-error "$database.dump"
  echo "restored $database beside the present one"
done

if [ -f artifacts.tar ]; then
  rm -rf "$artifacts/.restored" "$artifacts/.replaced"
  mkdir "$artifacts/.restored" "$artifacts/.replaced"
  tar --extract --file=artifacts.tar --directory="$artifacts/.restored"
  echo "restored the artifacts beside the present ones"
fi

for database in $databases; do
  exchange "$database" "${names[$database]}_replaced" "${names[$database]}_restored"
  exchanged="$database $exchanged"
done
if [ -f artifacts.tar ]; then
  move "$artifacts" "$artifacts/.replaced"
  move "$artifacts/.restored" "$artifacts"
fi
exchanged=""
for database in $databases; do
  echo "DROP DATABASE \"${names[$database]}_replaced\";" | sql "$database"
done
rm -rf "$artifacts/.replaced"
echo "restored backup $BACKUP"
