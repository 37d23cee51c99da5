{ callPackage }:
callPackage ./program.nix { } {
  name = "gradient-server";
  description = "Self-hosted Nix CI with a binary cache: the server";
  parts = [
    ../../core
    ../../handlers
    ../../runtime
    ../../migrations
    ../../docs/openapi.json
  ];
  main = "runtime/node/main.ts";
}
