import static org.codelibs.opensearch.runner.OpenSearchRunner.newConfigs;

import org.codelibs.opensearch.runner.OpenSearchRunner;

/**
 * One OpenSearch node on loopback: prints "ready HOST PORT" and lives until its input ends.
 *
 * <p>Run as a single source file: java -cp 'jars/*' Node.java FOLDER PORT.
 */
public class Node {
    /** Starts the node in args[0], which must not exist yet, on port args[1]. */
    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[1]);
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("http.port", port);
            settings.put("network.host", "127.0.0.1");
            settings.put("discovery.type", "single-node");
            settings.put("transport.port", "0");
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        runner.build(newConfigs()
                .basePath(args[0])
                .clusterName("peers")
                .numOfNode(1)
                .disableESLogger()
                .useLogger());
        runner.ensureYellow();
        System.out.println("ready 127.0.0.1 " + port);
        System.in.transferTo(java.io.OutputStream.nullOutputStream());
        runner.close();
        System.exit(0);
    }
}
