# `configurePostgres`: a database and its owner on this machine, reached by the socket.
{ config, lib, ... }:
let
  cfg = config.services.gradient;
  # Other programs of the machine, and a server that starts before the last one has ended.
  roomForOthers = 100;
  connections = cfg.databaseMaxConnections + cfg.databaseWebMaxConnections;
in
{
  config = lib.mkIf (cfg.enable && cfg.configurePostgres) {
    services.postgresql = {
      enable = true;
      ensureDatabases = [ "gradient" ];
      ensureUsers = [
        {
          name = "gradient";
          ensureDBOwnership = true;
        }
      ];
      settings.max_connections = lib.mkDefault (2 * connections + roomForOthers);
    };
  };
}
