# The image's entrypoint runs this once, on an empty volume: it creates a role and a private database for each part.
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
