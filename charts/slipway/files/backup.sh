# Make one backup: a folder named by its time, with a dump of each database, the artifacts, and their digests.
set -euo pipefail
backups=${BACKUPS:-/backup} settings=${SETTINGS:-/etc/slipway} artifacts=${ARTIFACTS:-/mlflow}
now=$(date -u +%Y%m%dT%H%M%SZ)
part=$backups/.part
rm -rf "$part"
mkdir "$part"
cd "$part"

for database in slipway mlflow identity; do
  PGUSER=$(cat "$settings/roles/$database/username") PGPASSWORD=$(cat "$settings/roles/$database/password") \
    pg_dump --format=custom --no-owner --no-privileges --file="$database.dump" --dbname="$(cat "$settings/backup/$database.url")"
  pg_restore --list "$database.dump" >/dev/null
done

# After the databases: the artifacts that they reference were uploaded before and never change.
if [ -d "$artifacts" ]; then
  # The content of the volume without its own folder and without lost+found, which may have another owner. Status 1: a file grew
  # while tar read it, so it belongs to a run that is not finished in the dump.
  find "$artifacts" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name .restored ! -name .replaced -printf '%P\0' |
    tar --create --file=artifacts.tar --directory="$artifacts" --null --files-from=- || [ $? -eq 1 ]
fi

sha256sum -- * >SHA256SUMS
sync
mv "$part" "$backups/$now"
echo "backup $now: $(du -sh "$backups/$now" | cut -f1)"

find "$backups" -mindepth 1 -maxdepth 1 -name '[0-9]*Z' | sort --reverse | tail --lines="+$((KEEP + 1))" | while read -r old; do
  rm -rf "$old"
  echo "removed $old"
done
