# The virtual host under which servers reach a discoverable worker.
{ config, lib, ... }:
let
  cfg = config.services.gradient.worker;
  localAddress = import ../local-address.nix { inherit lib; };
in
{
  config = lib.mkIf (cfg.enable && cfg.discoverable && cfg.reverseProxy.nginx.enable) {
    services.nginx = {
      enable = true;

      virtualHosts.${cfg.domain} = {
        enableACME = lib.mkDefault cfg.useTls;
        forceSSL = lib.mkDefault cfg.useTls;

        locations."/proto" = {
          proxyPass = "http://${localAddress cfg.listenAddr cfg.port}";
          recommendedProxySettings = false;
          # A server's connection is open for as long as the worker runs.
          extraConfig = ''
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_buffering off;
            proxy_connect_timeout 10s;
            proxy_send_timeout 90d;
            proxy_read_timeout 90d;
          '';
        };
      };
    };
  };
}
