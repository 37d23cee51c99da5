# The site under which servers reach a discoverable worker.
{ config, lib, ... }:
let
  cfg = config.services.gradient.worker;
  proxy = cfg.reverseProxy.caddy;
  localAddress = import ../local-address.nix { inherit lib; };
in
{
  config = lib.mkIf (cfg.enable && cfg.discoverable && proxy.enable) {
    services.caddy = {
      enable = true;

      # A server's connection is open for as long as the worker runs, also when Caddy takes another configuration.
      virtualHosts."${lib.optionalString (!cfg.useTls) "http://"}${toString cfg.domain}" = {
        inherit (proxy) useACMEHost;
        extraConfig = ''
          handle /proto {
            reverse_proxy ${localAddress cfg.listenAddr cfg.port} {
              flush_interval -1
              stream_close_delay 5m
              transport http {
                dial_timeout 10s
              }
            }
          }
          handle {
            respond 404
          }
        ''
        + proxy.extraConfig;
      };
    };
  };
}
