# What contradicts itself is told while the system is evaluated, and not by a unit that does not start.
{ config, lib, ... }:
let
  cfg = config.services.gradient;
  places = import ../places.nix { inherit lib; };
  folder = places.folder { seesHomes = cfg.settings.allowLocalSources; };
  name = option: "services.gradient.${option}";
  required = options: lib.mapAttrsToList (option: value: {
    assertion = value != null;
    message = "${name option} is required.";
  }) options;
  requiredWith = part: options: lib.optionals cfg.${part}.enable (
    lib.mapAttrsToList (option: value: {
      assertion = value != null;
      message = "${name "${part}.${option}"} is required with ${name "${part}.enable"}.";
    }) options
  );
  pool = most: least: {
    assertion = cfg.${least} <= cfg.${most};
    message = "${name least} must not exceed ${name most}.";
  };
  overrides = lib.concatLists (
    lib.mapAttrsToList (
      project: entry:
      lib.mapAttrsToList (input: override: {
        assertion = (override.url != null) != override.keep_url;
        message =
          "${name "state.projects.${project}.flake_input_overrides.${input}"}: "
          + "set exactly one of url and keep_url = true.";
      }) entry.flake_input_overrides
    ) cfg.state.projects
  );
in
{
  config = lib.mkIf cfg.enable {
    assertions =
      required {
        inherit (cfg) domain jwtSecretFile cryptSecretFile;
      }
      ++ requiredWith "oidc" {
        inherit (cfg.oidc) clientId clientSecretFile discoveryUrl;
      }
      ++ requiredWith "email" {
        inherit (cfg.email) smtpHost fromAddress;
      }
      ++ requiredWith "s3" {
        inherit (cfg.s3) bucket;
      }
      ++ requiredWith "githubApp" {
        inherit (cfg.githubApp) appId privateKeyFile webhookSecretFile;
      }
      ++ overrides
      ++ folder (name "baseDir") cfg.baseDir
      ++ lib.optionals (cfg.storage.sharedPath != null) (folder (name "storage.sharedPath") cfg.storage.sharedPath)
      ++ [
        {
          assertion = cfg.configurePostgres || cfg.databaseUrlFile != null;
          message =
            "The Gradient server needs a database: "
            + "set ${name "configurePostgres"} = true, or ${name "databaseUrlFile"}.";
        }
        {
          assertion = !(cfg.reverseProxy.nginx.enable && cfg.reverseProxy.caddy.enable);
          message = "${name "reverseProxy"}: enable nginx or caddy, not both.";
        }
        {
          assertion = cfg.reportErrors -> cfg.settings.sentryDsn != null;
          message =
            "${name "reportErrors"} needs ${name "settings.sentryDsn"}: "
            + "there is no other place that reports go to.";
        }
        {
          assertion = cfg.oidc.required -> cfg.oidc.enable;
          message = "${name "oidc.required"} needs ${name "oidc.enable"}.";
        }
        {
          assertion = cfg.oidc.enable -> lib.elem "openid" cfg.oidc.scopes;
          message = "${name "oidc.scopes"} must hold openid: without it the provider does not say who signs in.";
        }
        {
          assertion = cfg.email.requireVerification -> cfg.email.enable;
          message = "${name "email.requireVerification"} needs ${name "email.enable"}.";
        }
        {
          assertion = (cfg.email.smtpUsername != null) == (cfg.email.smtpPasswordFile != null);
          message = "${name "email"}: set both smtpUsername and smtpPasswordFile, or none.";
        }
        {
          assertion = (cfg.s3.accessKeyId != null) == (cfg.s3.secretAccessKeyFile != null);
          message = "${name "s3"}: set both accessKeyId and secretAccessKeyFile, or none.";
        }
        {
          assertion = cfg.storage.movingTo != null -> cfg.s3.enable;
          message = "${name "storage.movingTo"} needs ${name "s3.enable"}: objects move to or from S3.";
        }
        {
          assertion = cfg.s3.enable && cfg.storage.sharedPath != null -> cfg.storage.movingTo != null;
          message =
            "${name "storage.sharedPath"} has no effect with ${name "s3.enable"}: objects are kept in S3. "
            + "Leave one of them out, or say where objects move to (${name "storage.movingTo"}).";
        }
        {
          assertion = cfg.reverseProxy.caddy.useACMEHost != null -> cfg.useTls;
          message = "${name "reverseProxy.caddy.useACMEHost"} needs ${name "useTls"}.";
        }
        (places.address (name "listenAddr") cfg.listenAddr)
        (places.networks (name "settings.trustedProxies") cfg.settings.trustedProxies)
        (places.networks (name "settings.localIps") cfg.settings.localIps)
        (places.networks (name "settings.outboundAllow") cfg.settings.outboundAllow)
        (pool "databaseMaxConnections" "databaseMinConnections")
        (pool "databaseWebMaxConnections" "databaseWebMinConnections")
      ];
  };
}
