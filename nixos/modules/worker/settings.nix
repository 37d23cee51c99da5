# `services.gradient.worker.settings`, one variable each. Ranges and defaults are those of the worker.
{ lib }:
let
  inherit (lib) types;
  inherit (import ../variables.nix { inherit lib; })
    allAreas
    area
    flag
    number
    ;
  gibibyte = 1073741824;
  words = variable: example: description: {
    inherit variable example;
    type = types.nullOr (types.listOf types.str);
    default = null;
    description = "${description} Null is what Nix says.";
  };
in
{
  logLevels = {
    default = allAreas;
    eval = area "EVAL_LOG_LEVEL" "evaluations";
    build = area "BUILD_LOG_LEVEL" "builds";
    proto = area "PROTO_LOG_LEVEL" "the connection to the server";
  };

  table = {
    maxConcurrentBuilds = number "MAX_CONCURRENT_BUILDS" 100 1 10000 "Builds at a time.";
    evalWorkers = number "WORKER_EVAL_WORKERS" 1 1 256 "Evaluator processes at a time.";
    maxConcurrentEvaluations = number "MAX_CONCURRENT_EVALUATIONS" 1 1 1000 "Evaluations at a time.";
    maxEvaluationsPerWorker = number "MAX_EVALUATIONS_PER_WORKER" 20 0 1000000 ''
      Evaluations after which an evaluator process is replaced; 0 is never.
    '';
    maxNixdaemonConnections = number "MAX_NIXDAEMON_CONNECTIONS" 32 4 10000 ''
      Connections to the machine's nix-daemon. Builds, evaluations and each NAR under way hold one:
      `maxConcurrentBuilds` is cut to what they allow.
    '';
    maxProtoConnections = number "MAX_PROTO_CONNECTIONS" 16 1 100000 "Connections that a discoverable worker takes.";
    gcrootsDir = {
      variable = "WORKER_GCROOTS_DIR";
      type = types.either (types.enum [ "" ]) types.externalPath;
      default = "/nix/var/nix/gcroots/gradient";
      example = "";
      description = ''
        Where inputs and outputs of running builds are pinned against garbage collection; empty is nowhere.
      '';
    };
    architectures = words "WORKER_ARCHITECTURES" [ "x86_64-linux" "i686-linux" ] "Systems to build for.";
    systemFeatures = words "WORKER_SYSTEM_FEATURES" [ "kvm" "big-parallel" ] "System features to offer.";
    maxBuildCores = number "WORKER_MAX_BUILD_CORES" 0 0 4096 "Cores of each build (`NIX_BUILD_CORES`); 0 is all.";
    maxEvalRss = number "MAX_EVAL_RSS" (8 * gibibyte) 0 1125899906842624 ''
      Bytes of memory after which an evaluator is ended; 0 is no limit.
    '';
    evalAttributeTimeoutSecs = number "WORKER_EVAL_ATTRIBUTE_TIMEOUT_SECS" 600 1 86400 ''
      How long one attribute may take.
    '';
    maxRepositoryBytes = number "WORKER_MAX_REPOSITORY_BYTES" (4 * gibibyte) 1024 1125899906842624 ''
      Largest repository, in bytes.
    '';
    logBurstBytesPerMin = number "LOG_BURST_BYTES_PER_MIN" 8388608 1024 1099511627776 ''
      Bytes that one build may log in a minute.
    '';
    logSustainedBytesPerHour = number "LOG_SUSTAINED_BYTES_PER_HOUR" 67108864 1024 1099511627776 ''
      Bytes that one build may log in an hour.
    '';
    buildMetrics = flag "WORKER_BUILD_METRICS" false ''
      Whether memory and IO of builds are measured. The machine's nix-daemon then runs each build in a cgroup.
    '';
    buildCgroupRoot = {
      variable = "WORKER_BUILD_CGROUP_ROOT";
      type = types.path;
      default = "/sys/fs/cgroup";
      example = "/sys/fs/cgroup/unified";
      description = "Where the unified hierarchy of cgroups is mounted.";
    };
    allowLocalSources = flag "WORKER_ALLOW_LOCAL_SOURCES" false ''
      Whether flakes may read files of this machine. Only where every flake that comes here is trusted.
    '';
    sharedStore = flag "WORKER_SHARED_STORE" false ''
      Whether all organizations build in the machine's store. Only where all of them trust each other.
    '';
    sshKnownHostsFile = {
      variable = "WORKER_SSH_KNOWN_HOSTS_FILE";
      type = types.nullOr types.path;
      default = null;
      example = "/etc/ssh/ssh_known_hosts";
      description = "Keys of ssh servers; null learns them at the first connection.";
    };
    nixEvalJobs = {
      variable = "BINPATH_NIX_EVAL_JOBS";
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "\"\${pkgs.nix-eval-jobs}/bin/nix-eval-jobs\"";
      description = "The command nix-eval-jobs; null evaluates with Nix itself.";
    };
  };
}
