# The modules in NixOS itself: whole systems are evaluated, down to the derivation that would be built.
{
  self,
  nixpkgs,
  pkgs,
}:
let
  evaluated =
    name: modules:
    let
      system = nixpkgs.lib.nixosSystem {
        modules = [
          {
            nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
            boot.isContainer = true;
            system.stateVersion = nixpkgs.lib.trivial.release;
            security.acme.acceptTerms = true;
            security.acme.defaults.email = "admin@example.com";
          }
        ]
        ++ modules;
      };
    in
    pkgs.runCommand "evaluated-${name}" {
      # Evaluated and not built.
      toplevel = builtins.unsafeDiscardStringContext system.config.system.build.toplevel.drvPath;
    } "echo $toplevel > $out";

  server = proxy: {
    imports = [ self.nixosModules.default ];
    services.gradient = {
      enable = true;
      configurePostgres = true;
      reverseProxy.${proxy}.enable = true;
      domain = "gradient.example.com";
      jwtSecretFile = "/run/secrets/gradient-jwt";
      cryptSecretFile = "/run/secrets/gradient-crypt";
    };
  };
  worker = serverUrl: {
    imports = [ self.nixosModules.gradient-worker ];
    services.gradient.worker = {
      enable = true;
      inherit serverUrl;
      capabilities = {
        fetch = true;
        eval = true;
        build = true;
      };
    };
  };
in
{
  module-server-nginx = evaluated "server-nginx" [ (server "nginx") ];
  module-server-caddy = evaluated "server-caddy" [ (server "caddy") ];
  module-worker = evaluated "worker" [ (worker "wss://gradient.example.com/proto") ];
  module-server-and-worker = evaluated "server-and-worker" [
    (server "nginx")
    (worker "ws://127.0.0.1:3000/proto")
  ];
  module-deploy = evaluated "deploy" [
    {
      imports = [ self.nixosModules.deploy ];
      system.gradient-deploy = {
        enable = true;
        server = "https://gradient.example.com";
        apiKeyFile = "/var/lib/gradient-deploy/api-key";
        project = "myorg/myproject";
        watch.enable = true;
      };
    }
  ];
  vm-one-machine = pkgs.testers.runNixOSTest (import ./tests/one-machine.nix { inherit self; });
  vm-deploy = pkgs.testers.runNixOSTest (import ./tests/deploy.nix { inherit self; });
}
