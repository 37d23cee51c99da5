# The virtual host of `reverseProxy.caddy`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.gradient;
  proxy = cfg.reverseProxy.caddy;
  localAddress = import ../local-address.nix { inherit lib; };
  server = localAddress cfg.listenAddr cfg.port;

  # Caddy replaces what a client says of its address, upgrades WebSockets and sets no limit to bodies by itself.
  # `flush_interval -1`: a live log is live. A worker's connection outlives a new configuration of Caddy.
  backend = ''
    reverse_proxy ${server} {
      flush_interval -1
      stream_close_delay 5m
      transport http {
        dial_timeout 10s
        response_header_timeout 1h
      }
    }
  '';

  frontend =
    if cfg.frontend.enable then
      ''
        handle {
          root * ${pkgs.gradient-frontend}/share/gradient-frontend
          @page not path /assets/*
          header @page Cache-Control "no-cache"
          header /assets/* Cache-Control "public, max-age=31536000, immutable"
          try_files {path} {path}/ /index.html
          file_server
        }
      ''
    else
      ''
        handle {
          respond 404
        }
      '';
in
{
  config = lib.mkIf (cfg.enable && proxy.enable) {
    services.caddy = {
      enable = true;

      virtualHosts."${lib.optionalString (!cfg.useTls) "http://"}${toString cfg.domain}" = {
        inherit (proxy) useACMEHost;
        extraConfig = ''
          @gradient path /api /api/* /cache /cache/* /proto
          handle @gradient {
          ${backend}}
          handle /metrics {
            respond 404
          }
          ${frontend}
        ''
        + proxy.extraConfig;
      };
    };
  };
}
