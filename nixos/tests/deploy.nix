# From a commit to a running host: a machine with server and worker, and a host that deploys itself.
{ self }:
let
  domain = "gradient.example.com";
  token = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  repository = "/var/lib/fleet";
in
{
  name = "gradient-deploy";

  # The modules bring an overlay, which a machine with packages that are given cannot take.
  node.pkgsReadOnly = false;

  nodes.server =
    { pkgs, ... }:
    {
      imports = [
        self.nixosModules.default
        self.nixosModules.gradient-worker
      ];
      virtualisation.memorySize = 2048;
      virtualisation.writableStore = true;
      networking.extraHosts = "127.0.0.1 ${domain}";
      networking.firewall.allowedTCPPorts = [ 80 ];
      # Builds of this test take coreutils from the machine.
      nix.settings.sandbox = false;
      environment.systemPackages = [ pkgs.gitMinimal ];

      # In the store, as no real secret may be: these machines live for a minute.
      environment.etc = {
        "gradient-jwt".text = "0123456789abcdef0123456789abcdef0123456789abcdef";
        "gradient-crypt".text = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm";
        "gradient-key".text = builtins.hashString "sha256" token;
        "fleet".source = ./fleet;
      };

      services.gradient = {
        enable = true;
        configurePostgres = true;
        reverseProxy.nginx.enable = true;
        useTls = false;
        inherit domain;
        jwtSecretFile = "/etc/gradient-jwt";
        cryptSecretFile = "/etc/gradient-crypt";
        settings.allowLocalSources = true;
        state = {
          users.alice.email = "alice@example.com";
          organizations.acme.created_by = "alice";
          caches.main = {
            created_by = "alice";
            organizations = [ "acme" ];
          };
          projects.fleet = {
            organization = "acme";
            repository = "file://${repository}";
            wildcard = "nixosConfigurations.*.config.system.build.toplevel";
            created_by = "alice";
          };
          api_keys.hosts = {
            owned_by = "alice";
            key_file = "/etc/gradient-key";
            permissions = [
              "viewOrg"
              "triggerEvaluation"
              "reportDeployments"
            ];
          };
        };
        worker = {
          enable = true;
          serverUrl = "ws://127.0.0.1:3000/proto";
          settings.allowLocalSources = true;
          capabilities = {
            fetch = true;
            eval = true;
            build = true;
          };
        };
      };
    };

  nodes.host =
    { nodes, ... }:
    {
      imports = [ self.nixosModules.deploy ];
      virtualisation.writableStore = true;
      networking.extraHosts = "${nodes.server.networking.primaryIPAddress} ${domain}";
      systemd.services.sick.serviceConfig.ExecStart = "/run/booted-system/sw/bin/false";

      system.gradient-deploy = {
        enable = true;
        server = "http://${domain}";
        # The test's own network.
        allowHttp = true;
        apiKeyFile = "/var/lib/gradient-deploy/api-key";
        project = "acme/fleet";
        health.settleSec = 1;
        health.graceSec = 5;
      };
    };

  testScript = ''
    api = "http://${domain}/api/v1/projects/acme/fleet"
    curl = "curl --fail --silent --show-error -H 'Authorization: Bearer GRAD${token}' "

    def publish(label):
        server.succeed(
            f"""runuser -u gradient -- sh -ec '
                cd ${repository}
                cp -L /etc/fleet/* .
                echo {label} > label
                echo $(uname -m)-linux > system
                git add .
                git -c user.name=alice -c user.email=alice@example.com commit -q -m {label}
            '""",
            f"{curl} -H 'Content-Type: application/json' -d '{{}}' {api}/evaluate",
        )
        server.wait_until_succeeds(f"{curl} {api}/hosts/host/wanted | grep nixos-system-host-25.05.{label}")

    def runs(label):
        host.succeed(
            f"readlink /run/current-system | grep nixos-system-host-25.05.{label}",
            f"readlink -f /nix/var/nix/profiles/system | grep nixos-system-host-25.05.{label}",
        )

    start_all()
    server.wait_for_unit("gradient-worker.service")
    server.wait_for_unit("nginx.service")
    server.succeed("install -d -o gradient -g gradient ${repository}")
    server.succeed("runuser -u gradient -- git init -q -b main ${repository}")
    host.wait_for_unit("multi-user.target")

    with subtest("before there is a key its folder is root's alone, and nothing has failed"):
        host.succeed("test '700 root' = \"$(stat -c '%a %U' /var/lib/gradient-deploy)\"")
        host.succeed("systemctl is-active gradient-deploy.timer")
        host.succeed("test -z \"$(systemctl list-units --state=failed --plain --no-legend)\"")

    with subtest("what was built is deployed, and the server knows"):
        publish("good")
        host.succeed("umask 077; echo GRAD${token} > /var/lib/gradient-deploy/api-key")
        host.succeed("gradient-update")
        runs("good")
        server.succeed(f"{curl} {api}/hosts/host | grep nixos-system-host-25.05.good")

    with subtest("nothing new is no failure"):
        host.succeed("gradient-update")
        host.succeed("gradient-deploy status")

    with subtest("a build that breaks a unit is undone, and not tried again"):
        publish("sick")
        host.fail("gradient-update")
        runs("good")
        # It says that it does not try that one again.
        host.succeed("gradient-update || case $? in 10 | 13) ;; *) exit 1 ;; esac")
        host.succeed("test 1 = $(grep -c 'switch sick' /var/log/switches)")

    with subtest("a word is for one run, and what was forced is undone, too"):
        host.fail("gradient-update --force")
        runs("good")
        host.succeed("test 2 = $(grep -c 'switch sick' /var/log/switches)")
        host.succeed("gradient-update || case $? in 10 | 13) ;; *) exit 1 ;; esac")
        host.succeed("test 2 = $(grep -c 'switch sick' /var/log/switches)")

    with subtest("a better one is deployed by the timer's unit"):
        publish("better")
        host.succeed("systemctl start gradient-deploy.service")
        runs("better")
  '';
}
