{
  description = "Self-hosted Nix CI: from a git push to a running host";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem =
        function:
        lib.genAttrs systems (
          system: function (nixpkgs.legacyPackages.${system}.extend self.overlays.default)
        );
    in
    {
      overlays.default = import ./nixos/overlay.nix;

      # Paths, so that a module that is imported twice counts once.
      nixosModules = {
        default = ./nixos/modules/server;
        gradient-worker = ./nixos/modules/worker;
        deploy = ./nixos/modules/deploy;
      };

      packages = forEachSystem (pkgs: {
        default = pkgs.gradient-server;
        inherit (pkgs)
          gradient-server
          gradient-worker
          gradient-deploy
          gradient-frontend
          ;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShellNoCC {
          packages = [
            pkgs.nodejs_24
            pkgs.nix
            pkgs.git
            pkgs.openssh
            pkgs.postgresql
            pkgs.nginx
          ];
        };
      });

      checks = forEachSystem (
        pkgs:
        {
          inherit (pkgs)
            gradient-server
            gradient-worker
            gradient-deploy
            gradient-frontend
            ;
        }
        // import ./nixos/checks.nix { inherit self nixpkgs pkgs; }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt);
    };
}
