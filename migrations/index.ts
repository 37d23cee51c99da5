import type { Migration, MigrationProvider } from "kysely/migration";
import * as createAccounts from "./20261122T000000Z-create-accounts.ts";
import * as createCaches from "./20261122T000100Z-create-caches.ts";
import * as createBuilds from "./20261122T000200Z-create-builds.ts";
import * as createUpstreams from "./20261122T000300Z-create-upstreams.ts";
import * as limitWorkerSessions from "./20261122T000400Z-limit-worker-sessions.ts";
import * as createScheduling from "./20261122T011200Z-create-scheduling.ts";
import * as watchAndDialWorkers from "./20261122T011300Z-watch-and-dial-workers.ts";
import * as createFlakeInputs from "./20261122T011400Z-create-flake-inputs.ts";
import * as createBuildResults from "./20261122T011500Z-create-build-results.ts";
import * as shareDatabase from "./20261122T011600Z-share-database.ts";
import * as sealLogs from "./20261122T011800Z-seal-logs.ts";
import * as createBuildRequests from "./20261122T011900Z-create-build-requests.ts";
import * as listNars from "./20261122T013000Z-list-nars.ts";
import * as takeUploads from "./20261122T013200Z-take-uploads.ts";
import * as widenUpstreams from "./20261122T013400Z-widen-upstreams.ts";
import * as markIncompletePaths from "./20261122T013500Z-mark-incomplete-paths.ts";
import * as watchIntegrity from "./20261122T013800Z-watch-integrity.ts";
import * as createAdminTasks from "./20261122T013900Z-create-admin-tasks.ts";
import * as createRetention from "./20261122T014000Z-create-retention.ts";
import * as queueWhatIsLost from "./20261122T014100Z-queue-what-is-lost.ts";
import * as countCacheUsage from "./20261122T014200Z-count-cache-usage.ts";
import * as createRealisations from "./20261122T014400Z-create-realisations.ts";
import * as indexResolutions from "./20261122T014500Z-index-resolutions.ts";
import * as lightenBuildRows from "./20261122T014800Z-lighten-build-rows.ts";
import * as rotateCacheKeys from "./20261122T020000Z-rotate-cache-keys.ts";
import * as tellTimeByStatement from "./20261122T020100Z-tell-time-by-statement.ts";
import * as readLogsInParts from "./20261122T021600Z-read-logs-in-parts.ts";
import * as createMails from "./20261122T030000Z-create-mails.ts";
import * as createDeviceLogins from "./20261122T030100Z-create-device-logins.ts";
import * as linkIdentities from "./20261122T030500Z-link-identities.ts";
import * as recordAuditEvents from "./20261122T031000Z-record-audit-events.ts";
import * as createIntegrations from "./20261122T031100Z-create-integrations.ts";
import * as buryOrganizations from "./20261122T031200Z-bury-organizations.ts";
import * as createTriggers from "./20261122T031500Z-create-triggers.ts";
import * as createActions from "./20261122T031600Z-create-actions.ts";
import * as judgeEvaluations from "./20261122T032000Z-judge-evaluations.ts";
import * as declareState from "./20261122T033000Z-declare-state.ts";
import * as countForMetrics from "./20261122T033500Z-count-for-metrics.ts";
import * as showCaches from "./20261122T034000Z-show-caches.ts";
import * as recordBranches from "./20261122T040000Z-record-branches.ts";
import * as createHosts from "./20261122T040100Z-create-hosts.ts";
import * as permitDeploymentReports from "./20261122T040200Z-permit-deployment-reports.ts";
import * as indexLists from "./20261122T042000Z-index-lists.ts";
import * as indexAssignments from "./20261122T042100Z-index-assignments.ts";
import * as countEndsTogether from "./20261122T043000Z-count-ends-together.ts";
import * as keepHoldsOfHosts from "./20261122T044600Z-keep-holds-of-hosts.ts";
import * as countFetches from "./20261123T000100Z-count-fetches.ts";

// A static list, so that a bundle has every migration in it. Append; never edit one that was released.
const migrations: Record<string, Migration> = {
  "20261122T000000Z-create-accounts": createAccounts,
  "20261122T000100Z-create-caches": createCaches,
  "20261122T000200Z-create-builds": createBuilds,
  "20261122T000300Z-create-upstreams": createUpstreams,
  "20261122T000400Z-limit-worker-sessions": limitWorkerSessions,
  "20261122T011200Z-create-scheduling": createScheduling,
  "20261122T011300Z-watch-and-dial-workers": watchAndDialWorkers,
  "20261122T011400Z-create-flake-inputs": createFlakeInputs,
  "20261122T011500Z-create-build-results": createBuildResults,
  "20261122T011600Z-share-database": shareDatabase,
  "20261122T011800Z-seal-logs": sealLogs,
  "20261122T011900Z-create-build-requests": createBuildRequests,
  "20261122T013000Z-list-nars": listNars,
  "20261122T013200Z-take-uploads": takeUploads,
  "20261122T013400Z-widen-upstreams": widenUpstreams,
  "20261122T013500Z-mark-incomplete-paths": markIncompletePaths,
  "20261122T013800Z-watch-integrity": watchIntegrity,
  "20261122T013900Z-create-admin-tasks": createAdminTasks,
  "20261122T014000Z-create-retention": createRetention,
  "20261122T014100Z-queue-what-is-lost": queueWhatIsLost,
  "20261122T014200Z-count-cache-usage": countCacheUsage,
  "20261122T014400Z-create-realisations": createRealisations,
  "20261122T014500Z-index-resolutions": indexResolutions,
  "20261122T014800Z-lighten-build-rows": lightenBuildRows,
  "20261122T020000Z-rotate-cache-keys": rotateCacheKeys,
  "20261122T020100Z-tell-time-by-statement": tellTimeByStatement,
  "20261122T021600Z-read-logs-in-parts": readLogsInParts,
  "20261122T030000Z-create-mails": createMails,
  "20261122T030100Z-create-device-logins": createDeviceLogins,
  "20261122T030500Z-link-identities": linkIdentities,
  "20261122T031000Z-record-audit-events": recordAuditEvents,
  "20261122T031100Z-create-integrations": createIntegrations,
  "20261122T031200Z-bury-organizations": buryOrganizations,
  "20261122T031500Z-create-triggers": createTriggers,
  "20261122T031600Z-create-actions": createActions,
  "20261122T033000Z-declare-state": declareState,
  "20261122T033500Z-count-for-metrics": countForMetrics,
  "20261122T032000Z-judge-evaluations": judgeEvaluations,
  "20261122T034000Z-show-caches": showCaches,
  "20261122T040000Z-record-branches": recordBranches,
  "20261122T040100Z-create-hosts": createHosts,
  "20261122T040200Z-permit-deployment-reports": permitDeploymentReports,
  "20261122T042000Z-index-lists": indexLists,
  "20261122T042100Z-index-assignments": indexAssignments,
  "20261122T043000Z-count-ends-together": countEndsTogether,
  "20261122T044600Z-keep-holds-of-hosts": keepHoldsOfHosts,
  "20261123T000100Z-count-fetches": countFetches,
};

export const migrationProvider: MigrationProvider = {
  getMigrations: () => Promise.resolve(migrations),
};
