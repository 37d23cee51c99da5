{
  callPackage,
  gitMinimal,
  openssh,
}:
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
  tools = [
    gitMinimal
    openssh
  ];
  main = "runtime/node/main.ts";
}
