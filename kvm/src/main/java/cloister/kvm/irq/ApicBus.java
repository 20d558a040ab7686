package cloister.kvm.irq;

import static cloister.spec.x86.ApicRegister.*;

import cloister.kvm.KvmException;
import cloister.kvm.MsiRoute;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;

/// Carries interrupt messages between the local APICs of a VM, and from MSIs. [LINUX kvm_irq_delivery_to_apic]
public final class ApicBus implements Persistent {
    private static final int SHORTHAND_SELF = 1;
    private static final int SHORTHAND_ALL = 2;
    private static final int SHORTHAND_OTHERS = 3;
    private static final int MAX_GSI = 4096;

    private final List<LocalApic> apics = new ArrayList<>();
    private final MsiRoute[] routes = new MsiRoute[MAX_GSI];
    private boolean x2apicIds;
    private boolean broadcastQuirkOff;
    private int ioapicPins;

    public void add(LocalApic apic) {
        apics.add(apic);
    }

    /// KVM_CAP_X2APIC_API.
    public void x2apicApi(boolean use32BitIds, boolean disableBroadcastQuirk) {
        x2apicIds |= use32BitIds;
        broadcastQuirkOff |= disableBroadcastQuirk;
    }

    /// KVM_CAP_SPLIT_IRQCHIP: GSIs below `pins` are the VMM's IOAPIC.
    public void ioapicPins(int pins) {
        ioapicPins = pins;
    }

    /// Sends what the ICR of `source` says. `destination` is bits 63:32 of an x2APIC ICR or the 8 bits of an xAPIC one.
    public void send(LocalApic source, int icr, int destination) {
        int shorthand = (icr >>> 18) & 3;
        int mode = (icr >>> 8) & 7;
        boolean level = (icr & ICR_LEVEL) != 0;
        boolean assertLevel = (icr & ICR_ASSERT) != 0;
        if (mode == INIT && level && !assertLevel) {
            return; // INIT level de-assert: only ancient parts look at it
        }
        int vector = icr & 0xff;
        if (shorthand == SHORTHAND_SELF) {
            source.accept(mode, vector, false);
            return;
        }
        boolean x2apic = source.isX2apic();
        boolean logical = (icr & ICR_LOGICAL) != 0;
        boolean everyone = shorthand == SHORTHAND_ALL || shorthand == SHORTHAND_OTHERS
                || (!logical && destination == (x2apic ? -1 : 0xff));
        deliver(source, shorthand == SHORTHAND_OTHERS, everyone, logical, destination, mode, vector, false);
    }

    private int deliver(LocalApic source, boolean exceptSource, boolean everyone, boolean logical, int destination,
                        int mode, int vector, boolean level) {
        int taken = 0;
        for (int i = 0; i < apics.size(); i++) {
            var apic = apics.get(i);
            if (!apic.isEnabled() || (exceptSource && apic == source)) {
                continue;
            }
            if (everyone || (logical ? apic.matchesLogical(destination) : apic.apicId() == destination)) {
                if (apic.accept(mode, vector, level)) {
                    taken++;
                }
                if (mode == LOWEST_PRIORITY && taken == 1) {
                    return taken; // the arbitration rule is the implementation's: lowest APIC id wins
                }
            }
        }
        return taken;
    }

    /// Whether there is an enabled APIC with `apicId`.
    public boolean hasApic(int apicId) {
        for (int i = 0; i < apics.size(); i++) {
            if (apics.get(i).isEnabled() && apics.get(i).apicId() == apicId) {
                return true;
            }
        }
        return false;
    }

    /// KVM_HC_KICK_CPU: the vCPU with `apicId` need not stay halted. [LINUX kvm_pv_kick_cpu_op]
    public void kick(int apicId) {
        for (int i = 0; i < apics.size(); i++) {
            if (apics.get(i).isEnabled() && apics.get(i).apicId() == apicId) {
                apics.get(i).unhalt();
            }
        }
    }

    /// KVM_HC_SEND_IPI: an interrupt to each APIC whose id, less `first`, is set in the bitmap of two words. [LINUX kvm_pv_send_ipi]
    ///
    /// @param icr  the low half of an ICR: vector and delivery mode; physical and without shorthand
    /// @param wide words of 64 bits, else of 32
    /// @return how many APICs took it, or a negative error of hypercalls
    public long sendIpis(long low, long high, int first, long icr, boolean wide) {
        if ((icr & (ICR_LOGICAL | (3 << 18))) != 0) {
            return -Errno.EINVAL.number();
        }
        int word = wide ? 64 : 32;
        int taken = 0;
        for (int i = 0; i < apics.size(); i++) {
            var apic = apics.get(i);
            long bit = (apic.apicId() & 0xffff_ffffL) - (first & 0xffff_ffffL);
            boolean wanted = bit >= 0 && bit < 2 * word && (((bit < word ? low : high) >>> (bit % word)) & 1) != 0;
            if (wanted && apic.isEnabled() && apic.accept((int) (icr >>> 8) & 7, (int) icr & 0xff, (icr & ICR_LEVEL) != 0)) {
                taken++;
            }
        }
        return taken;
    }

    /// KVM_SIGNAL_MSI and irqfd.
    ///
    /// @return how many APICs took the message
    public int signalMsi(long address, int data) {
        int destination = destination(address);
        boolean logical = (address & 4) != 0;
        boolean everyone = !logical && (x2apicIds && broadcastQuirkOff ? destination == -1
                : ((destination & 0xff) == 0xff && destination >>> 8 == 0) || destination == -1);
        return deliver(null, false, everyone, logical, destination, (data >>> 8) & 7, data & 0xff, (data & (1 << 15)) != 0);
    }

    private int destination(long address) {
        int low = (int) (address >>> 12) & 0xff;
        return x2apicIds ? low | ((int) (address >>> 40) << 8) : low;
    }

    /// KVM_SET_GSI_ROUTING.
    public void routes(List<MsiRoute> table) {
        for (var route : table) {
            if (route.gsi() < 0 || route.gsi() >= MAX_GSI) {
                throw new KvmException(Errno.EINVAL, "GSI " + route.gsi());
            }
            if (x2apicIds && ((route.address() >>> 32) & 0xff) != 0) {
                throw new KvmException(Errno.EINVAL, "reserved bits in the MSI address of GSI " + route.gsi());
            }
        }
        Arrays.fill(routes, null);
        for (var route : table) {
            routes[route.gsi()] = route;
        }
    }

    /// Delivers the MSI of `gsi`, once.
    public int assertGsi(int gsi) {
        if (gsi < 0 || gsi >= MAX_GSI) {
            throw new KvmException(Errno.EINVAL, "GSI " + gsi);
        }
        var route = routes[gsi];
        return route == null ? 0 : signalMsi(route.address(), route.data());
    }

    /// The vectors of level-triggered IOAPIC routes that reach `apic`: their EOIs go to the VMM. [LINUX
    /// kvm_scan_ioapic_routes]
    public void scanIoapicRoutes(LocalApic apic, BitSet vectors) {
        vectors.clear();
        for (int gsi = 0; gsi < ioapicPins; gsi++) {
            var route = routes[gsi];
            if (route == null || (route.data() & (1 << 15)) == 0) {
                continue;
            }
            int destination = destination(route.address());
            boolean logical = (route.address() & 4) != 0;
            int vector = route.data() & 0xff;
            if (logical ? apic.matchesLogical(destination)
                    : destination == apic.apicId() || (destination & 0xff) == 0xff || apic.isActive(vector)) {
                vectors.set(vector);
            }
        }
    }

    @Override public String stateName() {
        return "bus";
    }

    @Override public void describe(StateSink to) {
        to.text("routes", Arrays.toString(routes));
        to.flag("x2apicIds", x2apicIds);
        to.flag("broadcastQuirkOff", broadcastQuirkOff);
        to.field("ioapicPins", ioapicPins);
    }
}
