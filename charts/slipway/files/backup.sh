# One backup: a folder named by its time, with a dump of each database, the artifacts, and the digests of all.
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

# After the databases: what they name has been uploaded before, and is never changed afterwards.
if [ -d "$artifacts" ]; then
  # What is in the volume without its own folder and without lost+found, which may belong to someone else. Status 1: a file grew
  # while it was read, so it belongs to a run that the dump does not have as finished.
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
