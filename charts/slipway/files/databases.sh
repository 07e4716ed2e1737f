# Run once by the image's entrypoint, on an empty volume: a role and a database for each part, closed to the others.
for folder in /etc/slipway/roles/*/; do
  ROLE="$(cat "$folder/username")" PASSWORD="$(cat "$folder/password")" DATABASE="$(basename "$folder")" \
    psql --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
\getenv role ROLE
\getenv password PASSWORD
\getenv database DATABASE
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"role";
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
SQL
done
