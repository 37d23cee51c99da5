{ config, lib, ... }:
let
  cfg = config.services.gradient.worker;
  name = option: "services.gradient.worker.${option}";
  nix = cfg.nixPackage;
  proxies = lib.filter (proxy: cfg.reverseProxy.${proxy}.enable) [
    "nginx"
    "caddy"
  ];
  # The server's module need not be there.
  server = config.services.gradient;
  runs = proxy: (server.enable or false) && server.reverseProxy.${proxy}.enable;
  evaluates = (cfg.capabilities.fetch || cfg.capabilities.eval) && !cfg.capabilities.federate;
  # Before 2.26 a flake reads every file that its evaluator can read, and of others the worker cannot tell.
  closedNix = "2.26";
  isClosed = (nix.pname or "nix") != "lix" && lib.versionAtLeast (nix.version or "0") closedNix;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.serverUrl != null;
        message = "${name "serverUrl"} is required.";
      }
      {
        assertion = cfg.capabilities.federate -> cfg.discoverable;
        message = "${name "capabilities.federate"} needs ${name "discoverable"}: a relay listens for its workers.";
      }
      {
        assertion = cfg.capabilities.federate -> cfg.downstreamsFile != null;
        message = "${name "capabilities.federate"} needs ${name "downstreamsFile"}: the workers that may connect.";
      }
      {
        assertion = proxies != [ ] -> cfg.discoverable && cfg.domain != null;
        message =
          "${name "reverseProxy.${lib.concatStringsSep " and " proxies}.enable"} needs "
          + "${name "discoverable"} and ${name "domain"}.";
      }
      {
        assertion = proxies != [ ] -> cfg.domain != (server.domain or null);
        message = "${name "domain"} must not be services.gradient.domain: both have a /proto of their own.";
      }
      {
        assertion = lib.length proxies < 2;
        message = "${name "reverseProxy"}: enable nginx or caddy, not both.";
      }
      {
        assertion = !(runs "nginx" && proxies == [ "caddy" ]) && !(runs "caddy" && proxies == [ "nginx" ]);
        message = "${name "reverseProxy"} must be that of services.gradient: both would listen on the same ports.";
      }
      {
        assertion = cfg.reverseProxy.caddy.useACMEHost != null -> cfg.useTls;
        message = "${name "reverseProxy.caddy.useACMEHost"} needs ${name "useTls"}.";
      }
      {
        assertion = evaluates && !cfg.settings.allowLocalSources -> isClosed;
        message =
          "${name "capabilities"}: evaluations need Nix ${closedNix} or later as ${name "nixPackage"}: "
          + "with others every flake reads what the worker can read.";
      }
    ];

    warnings = lib.optional (cfg.peersFile == null && !cfg.isBesideServer) ''
      ${name "peersFile"} is not set: no server will take this worker until it is registered and has its token there.
    '';
  };
}
