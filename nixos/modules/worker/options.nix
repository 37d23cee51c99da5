{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
  capability = what: mkOption {
    type = types.bool;
    default = false;
    example = true;
    description = "Whether the worker may ${what}.";
  };
  secret = description: example: mkOption {
    type = types.nullOr types.externalPath;
    default = null;
    inherit example;
    description = "${description} It reaches the worker as a systemd credential.";
  };
in
{
  options.services.gradient.worker = {
    enable = lib.mkEnableOption "a Gradient worker";

    package = mkOption {
      type = types.package;
      default = pkgs.gradient-worker;
      defaultText = lib.literalExpression "pkgs.gradient-worker";
      example = lib.literalExpression "inputs.gradient.packages.x86_64-linux.gradient-worker";
      description = "The worker to run.";
    };

    nixPackage = mkOption {
      type = types.package;
      default = config.nix.package;
      defaultText = lib.literalExpression "config.nix.package";
      example = lib.literalExpression "pkgs.nixVersions.latest";
      description = ''
        The Nix that the worker runs: to evaluate, and as the daemon of each organization where it serves several.
        Builds for a single organization are done by the machine's own daemon, which may be another Nix, or Lix.
      '';
    };

    serverUrl = mkOption {
      type = types.nullOr (types.strMatching "(ws|http)s?://.+");
      default = null;
      example = "wss://gradient.example.com/proto";
      description = "WebSocket address of the server's `/proto`. Required.";
    };

    workerId = mkOption {
      type = types.nullOr (
        types.strMatching "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
      );
      default = null;
      example = "550e8400-e29b-41d4-a716-446655440001";
      description = ''
        The worker's UUID (version 4). Null: the one in `worker-id` of its data directory, made at its first start.
      '';
    };

    peersFile = secret ''
      File with a line `peer_id:token` for each registration; `*` is any peer. Beside a server on the same machine
      none is needed.
    '' "/run/secrets/gradient-worker-peers";

    downstreamsFile = secret ''
      With `capabilities.federate`: file with a line `worker_id:organization_id:token` for each worker that may connect
      to this relay.
    '' "/run/secrets/gradient-worker-downstreams";

    signingKeyFile = secret ''
      With `capabilities.sign`: file with the worker's secret key, as Nix writes it. Null: the worker makes one.
    '' "/run/secrets/gradient-worker-key";

    baseDir = mkOption {
      type = types.externalPath;
      default = "/var/lib/gradient-worker";
      example = "/srv/gradient-worker";
      description = "Data directory: the worker's id, repositories, and the stores of organizations.";
    };

    discoverable = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether the server may connect to the worker.";
    };

    listenAddr = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "::1";
      description = "Address to bind to with `discoverable`.";
    };

    port = mkOption {
      type = types.port;
      default = 3100;
      example = 3210;
      description = "Port to listen on with `discoverable`.";
    };

    domain = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "builder.example.com";
      description = "Host name under which servers reach the worker, for its virtual host.";
    };

    useTls = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether servers reach the worker's virtual host by https. With nginx, that gets a certificate by ACME and takes
        https alone; Caddy gets one as `services.caddy` does.
      '';
    };

    reverseProxy = {
      nginx.enable = lib.mkEnableOption "nginx before a discoverable worker";

      caddy = {
        enable = lib.mkEnableOption "Caddy before a discoverable worker";

        useACMEHost = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "example.com";
          description = ''
            Passed to `services.caddy.virtualHosts.<name>.useACMEHost`. The certificate of that host in
            `security.acme.certs` is yours to declare: nothing is requested here.
          '';
        };

        extraConfig = mkOption {
          type = types.lines;
          default = "";
          example = "log";
          description = "Directives for Caddy that follow those of the reverse proxy.";
        };
      };
    };

    capabilities = {
      fetch = capability "prefetch flake inputs";
      eval = capability "run Nix evaluations";
      build = capability "execute Nix builds";
      sign = capability "sign store paths with a key of its own";
      federate = capability "relay for other workers, instead of working itself. It needs `discoverable`";
    };

    settings = variables.options settings.table // {
      logLevel = variables.options settings.logLevels;
    };
  };
}
