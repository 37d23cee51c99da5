{ callPackage }:
callPackage ./program.nix { } {
  name = "gradient-worker";
  description = "Self-hosted Nix CI with a binary cache: the worker";
  parts = [
    ../../core
    ../../worker
  ];
  main = "worker/main.ts";
}
