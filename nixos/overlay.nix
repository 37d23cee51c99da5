# The packages of this repository, for whatever nixpkgs they are laid over.
final: _previous: {
  gradient-node-modules = final.callPackage ./packages/node-modules.nix { };
  gradient-server = final.callPackage ./packages/server.nix { };
  gradient-worker = final.callPackage ./packages/worker.nix { };
  gradient-deploy = final.callPackage ./packages/deploy.nix { };
  gradient-frontend = final.callPackage ./packages/frontend.nix { };
}
