{ config, lib, ... }:
let
  cfg = config.services.gradient.worker;
  name = option: "services.gradient.worker.${option}";
  places = import ../places.nix { inherit lib; };
  folder = places.folder { seesHomes = cfg.settings.allowLocalSources; };
  localAddress = import ../local-address.nix { inherit lib; };
  nix = cfg.nixPackage;
  proxies = lib.filter (proxy: cfg.reverseProxy.${proxy}.enable) [
    "nginx"
    "caddy"
  ];
  # The server's module need not be there.
  server = config.services.gradient;
  runs = proxy: (server.enable or false) && server.reverseProxy.${proxy}.enable;
  sharesAddress =
    places.listensOn server.listenAddr cfg.listenAddr || places.listensOn cfg.listenAddr server.listenAddr;
  evaluates = (cfg.capabilities.fetch || cfg.capabilities.eval) && !cfg.capabilities.federate;
  # Before 2.26 a flake reads every file that its evaluator can read, and of others the worker cannot tell.
  closedNix = "2.26";
  isClosed = (nix.pname or "nix") != "lix" && lib.versionAtLeast (nix.version or "0") closedNix;
in
{
  config = lib.mkIf cfg.enable {
    assertions = folder (name "baseDir") cfg.baseDir
    ++ lib.optionals (cfg.settings.gcrootsDir != "") (folder (name "settings.gcrootsDir") cfg.settings.gcrootsDir)
    ++ [
      (places.address (name "listenAddr") cfg.listenAddr)
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
    ]
    ++ lib.optionals (server.enable or false) [
      {
        assertion = !cfg.missesServer;
        message =
          "${name "serverUrl"} leads to this machine, but not to its server: whoever listens there would get the token "
          + "that opens the server. Write ws://${localAddress server.listenAddr server.port}/proto, "
          + "or set ${name "peersFile"} for another server.";
      }
      {
        assertion = cfg.isBesideServer -> server.discoverable;
        message =
          "services.gradient.discoverable = false shuts out the worker of this machine, too: "
          + "let workers connect, or leave ${name "enable"} out.";
      }
      {
        assertion = !(cfg.discoverable && cfg.port == server.port && sharesAddress);
        message =
          "${name "port"} is services.gradient.port (${toString cfg.port}), and both would listen there: "
          + "give one of them another.";
      }
    ];

    warnings = lib.optional (cfg.peersFile == null && !cfg.isBesideServer) ''
      ${name "peersFile"} is not set: no server will take this worker until it is registered and has its token there.
    '';
  };
}
