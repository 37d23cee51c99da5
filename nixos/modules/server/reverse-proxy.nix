{ lib, ... }:
let
  inherit (lib) mkOption types;
  caddy = [
    "services"
    "gradient"
    "reverseProxy"
    "caddy"
    "extraConfig"
  ];
in
{
  imports = [
    # The documentation spelled it so for years.
    (lib.mkRenamedOptionModule [
      "services"
      "gradient"
      "reversePorxy"
      "caddy"
      "extraConfig"
    ] caddy)
  ];

  options.services.gradient.reverseProxy = {
    nginx = {
      enable = lib.mkEnableOption "nginx as the reverse proxy";

      manageTls = mkOption {
        type = types.bool;
        default = true;
        example = false;
        description = ''
          Whether nginx gets its certificate by ACME and sends everybody to https, with `useTls`. Without it, the
          virtual host of `domain` is yours to give a certificate to, or something before nginx ends TLS.
        '';
      };
    };

    caddy = {
      enable = lib.mkEnableOption "Caddy as the reverse proxy";

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
        example = "encode zstd gzip";
        description = "Directives for Caddy that follow those of the reverse proxy.";
      };
    };
  };
}
