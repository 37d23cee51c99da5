{ callPackage }:
callPackage ./program.nix { } {
  name = "gradient-deploy";
  description = "Self-hosted Nix CI with a binary cache: the agent of a host that takes what was built for it";
  parts = [
    ../../core
    ../../deploy-agent
  ];
  main = "deploy-agent/main.ts";
  # It runs beside what the host is for.
  nodeOptions = "--max-semi-space-size=1 --max-old-space-size=256";
}
