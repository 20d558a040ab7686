package cloister.kvm.mmu;

import java.util.Arrays;

/// Lists of entries of page tables, each entry by its physical address. A list is a `long`: 0 for none, the address of the only entry, or
/// an odd number that names an array. [LINUX struct kvm_rmap_head, pte_list_desc]
final class EntryLists {
    private long[][] entries = new long[16][];
    private int[] counts = new int[16];
    private int made;
    private int[] spare = new int[16];
    private int spares;

    private static boolean isArray(long list) {
        return (list & 1) != 0;
    }

    int size(long list) {
        return list == 0 ? 0 : isArray(list) ? counts[(int) (list >>> 1)] : 1;
    }

    long at(long list, int position) {
        return isArray(list) ? entries[(int) (list >>> 1)][position] : list;
    }

    /// The list with `entryPa` in addition.
    long add(long list, long entryPa) {
        if (list == 0) {
            return entryPa;
        }
        int number = isArray(list) ? (int) (list >>> 1) : begin(list);
        if (counts[number] == entries[number].length) {
            entries[number] = Arrays.copyOf(entries[number], counts[number] * 2);
        }
        entries[number][counts[number]++] = entryPa;
        return ((long) number << 1) | 1;
    }

    private int begin(long first) {
        int number = spares > 0 ? spare[--spares] : made++;
        if (number == entries.length) {
            entries = Arrays.copyOf(entries, number * 2);
            counts = Arrays.copyOf(counts, number * 2);
        }
        if (entries[number] == null) {
            entries[number] = new long[4];
        }
        entries[number][0] = first;
        counts[number] = 1;
        return number;
    }

    /// The list without `entryPa`, which is in it.
    long remove(long list, long entryPa) {
        if (!isArray(list)) {
            check(list == entryPa, entryPa);
            return 0;
        }
        int number = (int) (list >>> 1);
        var array = entries[number];
        int position = 0;
        while (position < counts[number] && array[position] != entryPa) {
            position++;
        }
        check(position < counts[number], entryPa);
        array[position] = array[--counts[number]];
        if (counts[number] > 1) {
            return list;
        }
        if (spares == spare.length) {
            spare = Arrays.copyOf(spare, spares * 2);
        }
        spare[spares++] = number;
        return array[0];
    }

    private static void check(boolean found, long entryPa) {
        if (!found) {
            throw new IllegalStateException("entry at 0x" + Long.toHexString(entryPa) + " is not in its list");
        }
    }
}
