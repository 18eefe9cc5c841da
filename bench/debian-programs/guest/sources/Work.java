import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Collections, strings and arithmetic, long enough for the compiler to come in. */
public final class Work {
    public static void main(String[] arguments) {
        long sum = 0;
        for (int round = 0; round < 4; round++) {
            sum += collections(round) + strings(round) + arithmetic(round);
        }

        System.out.println(sum);
    }

    private static long collections(int round) {
        Map<Integer, List<Integer>> groups = new HashMap<>();
        Map<String, Integer> sorted = new TreeMap<>();
        for (int i = 0; i < 150_000; i++) {
            int key = (int) ((i * 7919L + round) % 10_007);
            groups.computeIfAbsent(key, k -> new ArrayList<>()).add(i);
            if (i % 4 == 0) {
                sorted.merge("key" + key, i, Integer::sum);
            }
        }

        long sum = 0;
        for (List<Integer> list : groups.values()) {
            sum += list.stream().mapToLong(Integer::longValue).filter(x -> x % 3 == 0).sum();
        }

        return sum + sorted.size();
    }

    private static long strings(int round) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 60_000; i++) {
            text.append("line ").append(i * 31 + round).append(i % 9 == 0 ? '\n' : ' ');
        }

        long sum = 0;
        for (String line : text.toString().split("\n")) {
            sum += line.hashCode() + line.toUpperCase().replace("LINE", "x").length();
        }

        return sum;
    }

    private static long arithmetic(int round) {
        double real = round;
        long whole = 1;
        for (int i = 1; i < 12_000_000; i++) {
            real += 1.0 / i;
            whole = whole * 6364136223846793005L + i ^ whole >>> 17;
        }

        return whole + (long) (real * 1000);
    }
}
