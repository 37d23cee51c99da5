# A worker on the machine of its server needs no registration: it is declared as a base worker, and both get a token
# that is made at the first start. It never leaves the machine, and no configuration holds it.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.gradient.worker;
  server = config.services.gradient;
  places = import ../places.nix { inherit lib; };
  # Without the server's module there is no such option, and nothing may be said of it.
  hasServer = options.services.gradient ? state;

  # Only to this very server: another would learn a token that opens ours. Null for whatever is no plain address: a
  # password may look like a port.
  authority = builtins.match "(wss?|https?)://(\\[[0-9a-f:]*]|[^]:/@[]*)(:[0-9]*)?(/.*)?" (
    lib.toLower (toString cfg.serverUrl)
  );
  part' = builtins.elemAt authority;
  isTls = lib.elem (part' 0) [ "wss" "https" ];
  host = lib.replaceStrings [ "[" "]" ] [ "" "" ] (part' 1);
  port =
    if part' 2 == null || part' 2 == ":" then
      if isTls then "443" else "80"
    else
      lib.replaceStrings [ ":" ] [ "" ] (part' 2);
  isServerPort = port == toString server.port;
  isAtServer = places.listensOn server.listenAddr;
  isEverywhere = isAtServer "127.0.0.1" && isAtServer "::1";
  isLoopback = host == "::1" || builtins.match "127(\\.[0-9]+){3}" host != null;
  isDomain = host == lib.toLower (toString server.domain);
  isAddress = isLoopback || host == server.listenAddr;
  isHere = isAddress || isDomain || host == "localhost";
  reachesServer =
    isAddress && isServerPort && isAtServer host
    # Which of the two it is, is for the resolver to say.
    || host == "localhost" && isServerPort && isEverywhere
    # By https the certificate says who it is, and by http it is the proxy or the server itself.
    || isDomain && (isTls || port == "80" || isServerPort && isAtServer "0.0.0.0");
  mayBeBeside = hasServer && server.enable && cfg.peersFile == null && authority != null;

  # The state is written before the worker has ever run, so its id follows from what the machine is called.
  digest = builtins.hashString "sha256" "gradient-worker ${config.networking.hostName} ${toString server.domain}";
  part = builtins.substring;
  id = "${part 0 8 digest}-${part 8 4 digest}-4${part 13 3 digest}-8${part 17 3 digest}-${part 20 12 digest}";
in
{
  options.services.gradient.worker = {
    isBesideServer = mkOption {
      type = types.bool;
      readOnly = true;
      internal = true;
      default = mayBeBeside && reachesServer;
      description = "Whether the worker gets its token from the server of this machine.";
    };

    missesServer = mkOption {
      type = types.bool;
      readOnly = true;
      internal = true;
      default = mayBeBeside && isHere && !reachesServer;
      description = "Whether the worker's address is one of this machine, where its server does not listen.";
    };

    tokenFolder = mkOption {
      type = types.str;
      readOnly = true;
      internal = true;
      default = "/var/lib/gradient-worker-token";
      description = "Where that token is kept, for root alone.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.isBesideServer) (
    {
      services.gradient = {
        worker.workerId = lib.mkDefault id;
      }
      // lib.optionalAttrs hasServer {
        state.workers.beside-server = {
          worker_id = cfg.workerId;
          # A machine may get its name elsewhere.
          display_name = lib.mkIf (config.networking.hostName != "") (lib.mkDefault config.networking.hostName);
          token_file = "${cfg.tokenFolder}/token";
          created_by = lib.mkDefault null;
          base_worker = true;
          # What is declared here begins with it; other organizations ask for it.
          organizations = lib.mkDefault (
            lib.mapAttrsToList (
              key: entry: if entry.name == null then key else entry.name
            ) server.state.organizations
          );
        };
      };

      systemd.services.gradient-worker-token = {
        description = "Token of the Gradient worker on this machine";
        requiredBy = [
          "gradient-server.service"
          "gradient-worker.service"
        ];
        before = [
          "gradient-server.service"
          "gradient-worker.service"
        ];
        # Each file is whole or not there, also after a loss of power.
        script = ''
          cd ${cfg.tokenFolder}
          if [ ! -s token ]; then
            head -c 48 /dev/urandom | base64 -w 0 > token.new
            sync token.new
            mv token.new token
          fi
          printf '*:%s\n' "$(cat token)" > peers.new
          sync peers.new
          mv peers.new peers
        '';
        serviceConfig = import ../hardening.nix // {
          Type = "oneshot";
          RemainAfterExit = true;
          StateDirectory = baseNameOf cfg.tokenFolder;
          StateDirectoryMode = "0700";
          PrivateNetwork = true;
        };
      };

      systemd.services.gradient-worker = {
        wants = [ "gradient-server.service" ];
        after = [ "gradient-server.service" ];
      };
    }
  );
}
