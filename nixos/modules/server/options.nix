# What an operator decides first, and the table of `settings`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.gradient;
  variables = import ../variables.nix { inherit lib; };
  settings = import ./settings.nix { inherit lib; };
  scheme = if cfg.useTls then "https" else "http";
  secret = description: example: mkOption {
    type = types.nullOr types.externalPath;
    default = null;
    inherit example;
    description = "${description} It reaches the server as a systemd credential.";
  };
in
{
  options.services.gradient = {
    enable = lib.mkEnableOption "the Gradient server";

    package = mkOption {
      type = types.package;
      default = pkgs.gradient-server;
      defaultText = lib.literalExpression "pkgs.gradient-server";
      example = lib.literalExpression "inputs.gradient.packages.x86_64-linux.gradient-server";
      description = "The server to run.";
    };

    domain = mkOption {
      type = types.nullOr (types.strMatching "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?");
      default = null;
      example = "gradient.example.com";
      description = "Public host name. Required.";
    };

    useTls = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether people reach the server by https. Its addresses and the `Secure` mark of its cookies follow; with the
        bundled nginx, also the certificate.
      '';
    };

    frontend = {
      enable = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = "Whether the bundled reverse proxy serves the web interface.";
      };

      url = mkOption {
        type = types.str;
        default = "${scheme}://${toString cfg.domain}";
        defaultText = lib.literalExpression ''"https://''${config.services.gradient.domain}"'';
        example = "https://ci.example.com";
        description = "Where people reach the web interface. Mails and status reports link to it.";
      };
    };

    baseDir = mkOption {
      type = types.externalPath;
      default = "/var/lib/gradient";
      example = "/srv/gradient";
      description = "Data directory.";
    };

    listenAddr = mkOption {
      type = types.str;
      default = "127.0.0.1";
      example = "::1";
      description = "Address to bind to.";
    };

    port = mkOption {
      type = types.port;
      default = 3000;
      example = 3210;
      description = "HTTP port.";
    };

    jwtSecretFile =
      secret "File with the secret that session tokens are signed with (HS256), of at least 32 bytes. Required."
        "/run/secrets/gradient-jwt";

    cryptSecretFile =
      secret "File with the key that secrets in the database are encrypted with. Required."
        "/run/secrets/gradient-crypt";

    metricsTokenFile = secret ''
      File with the token that scrapers present as `Authorization: Bearer <token>`. With it the server answers
      `GET /metrics`, on its own port alone; without it, with 404.
    '' "/run/secrets/gradient-metrics";

    configurePostgres = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to set up PostgreSQL on this machine, with a database and a user for the server.";
    };

    databaseUrlFile = secret ''
      File with the connection string of PostgreSQL, which may hold a password. It overrides the database that
      `configurePostgres` sets up; null is that one.
    '' "/run/secrets/gradient-database-url";

    databaseMaxConnections = mkOption {
      type = types.ints.between 1 10000;
      default = 32;
      example = 64;
      description = ''
        Most connections of scheduler, workers and caches. With `databaseWebMaxConnections` these are all of the
        process; raise them only where PostgreSQL's `max_connections` has room.
      '';
    };

    databaseMinConnections = mkOption {
      type = types.ints.between 0 10000;
      default = 2;
      example = 4;
      description = "Connections of scheduler, workers and caches that are kept open.";
    };

    databaseWebMaxConnections = mkOption {
      type = types.ints.between 1 10000;
      default = 16;
      example = 32;
      description = "Most connections for requests of the API.";
    };

    databaseWebMinConnections = mkOption {
      type = types.ints.between 0 10000;
      default = 1;
      example = 2;
      description = "Connections for requests of the API that are kept open.";
    };

    reportErrors = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether errors are sent to Sentry, at `settings.sentryDsn`.";
    };

    discoverable = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = "Whether workers may connect to `/proto`.";
    };

    githubApp = {
      enable = lib.mkEnableOption "the GitHub App of this instance";

      appId = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 123456;
        description = "The App's id, as GitHub shows it.";
      };

      privateKeyFile = secret "File with the App's private key (PEM)." "/run/secrets/gradient-github-app-key";

      webhookSecretFile =
        secret "File with the secret of the App's webhook."
          "/run/secrets/gradient-github-app-webhook-secret";
    };

    settings = variables.options settings.table // {
      logLevel = variables.options settings.logLevels;
    };
  };
}
