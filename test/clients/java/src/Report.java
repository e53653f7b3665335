/** Prints a line for each test. */
final class Report {
    private static int failed;

    private Report() {
    }

    static boolean ok(boolean good, String what) {
        if (!good)
            failed++;
        System.out.println((good ? "ok - " : "not ok - ") + what);
        return good;
    }

    static void same(Object got, Object wanted, String what) {
        if (!ok(java.util.Objects.equals(got, wanted), what))
            System.out.println("# got " + got + "\n# not " + wanted);
    }

    static void note(String text) {
        System.out.println("# " + (text.length() > 600 ? text.substring(0, 600) + " ..." : text));
    }

    static int exitCode() {
        return failed > 0 ? 1 : 0;
    }
}
