{
  callPackage,
  gitMinimal,
  openssh,
}:
callPackage ./program.nix { } {
  name = "gradient-worker";
  description = "Self-hosted Nix CI with a binary cache: the worker";
  parts = [
    ../../core
    ../../worker
  ];
  tools = [
    gitMinimal
    openssh
  ];
  main = "worker/main.ts";
}
