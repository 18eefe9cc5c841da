using Tutti.Host;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Kvm.Tests;

/// <summary>What tests need that not every KVM, or host, has.</summary>
public enum KvmAbility
{
    /// <summary>AVX on the host's processor.</summary>
    Avx,

    /// <summary>32-bit paging, which a software KVM may lack.</summary>
    LegacyPaging,

    /// <summary>IRET in protected mode, which KVM's own emulator of instructions lacks.</summary>
    ProtectedReturn,

    /// <summary>Faults for MSRs that KVM does not know, which its module's parameter can switch off.</summary>
    UnknownMsrFaults,

    /// <summary>Time-stamp counters whose offset can be set (Linux 5.16).</summary>
    TscOffset,
}

/// <summary>What the host's KVM can do, found out by evidence.</summary>
internal static class Kvm
{
    private static readonly Lazy<string?> TscOffset = new(FindTscOffset);
    private static readonly Lazy<string?> LegacyPaging = new(FindLegacyPaging);
    private static readonly Lazy<string?> ProtectedReturn = new(FindProtectedReturn);

    /// <summary>Why the tests can't run here; null where they can.</summary>
    internal static string? Reason { get; } = FindReason();

    /// <summary>Why tests that need the ability can't run here; null where they can.</summary>
    internal static string? FindReason(KvmAbility ability) => Reason ?? ability switch
    {
        KvmAbility.Avx => System.Runtime.Intrinsics.X86.Avx.IsSupported ? null : "The host's processor has no AVX.",
        KvmAbility.LegacyPaging => LegacyPaging.Value,
        KvmAbility.ProtectedReturn => ProtectedReturn.Value,
        KvmAbility.UnknownMsrFaults => FindIgnoredMsrs(),
        KvmAbility.TscOffset => TscOffset.Value,
        _ => throw new ArgumentOutOfRangeException(nameof(ability)),
    };

    private static string? FindReason()
    {
        try
        {
            using KvmSystem system = KvmSystem.Open();
            using FileDescriptor vm = system.CreateVm();
            return null;
        }
        catch (KvmUnavailableException e)
        {
            return e.Message;
        }
    }

    private static string? FindIgnoredMsrs()
    {
        const string Parameter = "/sys/module/kvm/parameters/ignore_msrs";
        return File.Exists(Parameter) && File.ReadAllText(Parameter).Trim() is "Y" or "1" ? $"{Parameter} says that unknown MSRs read as 0." : null;
    }

    private static string? FindTscOffset()
    {
        using SmallGuest guest = new();
        KvmProcessor processor = (KvmProcessor)guest.Processor;
        if (!processor.HasTscOffset)
        {
            return "This kernel has no KVM_VCPU_TSC_OFFSET (Linux 5.16): the counters can't stop.";
        }

        ulong before = processor.ReadMsr(Msr.Tsc);
        processor.TscOffset -= 1L << 40;
        return processor.ReadMsr(Msr.Tsc) < before ? null : "This KVM takes KVM_VCPU_TSC_OFFSET, and the counter stays as it was: it can't stop.";
    }

    private static string? FindLegacyPaging()
    {
        using SmallGuest guest = new();
        guest.Start(GuestMode.Paged32, a => a.@out((byte)SmallGuest.EndPort, al));
        return (guest.GetRegisters().Cr0 & Cr0.Paging) != 0 ? null : "This KVM drops CR0.PG outside of long mode: it has no 32-bit paging.";
    }

    private static string? FindProtectedReturn()
    {
        const int Vector = 0x31;
        using SmallGuest guest = new();
        guest.SetHandler(GuestMode.Protected32, Vector, a => a.iretd());
        guest.Start(GuestMode.Protected32, a =>
        {
            a.@int(Vector);
            a.@out((byte)SmallGuest.EndPort, al);
        });
        ProcessorExit exit = guest.Run();
        return exit.Kind == ProcessorExitKind.Requested ? null : $"IRET in protected mode ended with {exit.Kind} ({exit.Message}).";
    }
}
