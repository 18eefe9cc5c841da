using System.Globalization;
using System.Runtime.InteropServices;

namespace Tutti.Cpu.Kvm;

/// <summary>Says in one line why KVM can't go on with a guest. The machine adds registers and code bytes.</summary>
internal static unsafe class ExitReport
{
    // SAFETY: for both methods, the vCPU hands over its own shared page, which stays mapped while it runs.

    /// <summary>For a KVM_RUN that failed.</summary>
    internal static string DescribeFailure(int errno, KvmRun* run)
    {
        string text = Invariant($"KVM_RUN failed: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})");
        // Newer kernels tell with the failure which memory they could not have.
        return run->ExitReason == KvmExitReason.MEMORY_FAULT
            ? text + Invariant($", at guest address 0x{run->MemoryFault.Gpa:x}")
            : text;
    }

    /// <summary>For an exit that nothing can be done about.</summary>
    internal static string Describe(KvmRun* run)
    {
        KvmExitReason reason = run->ExitReason;
        string name = Enum.IsDefined(reason) ? $"KVM_EXIT_{reason}" : Invariant($"KVM exit {(uint)reason}, which Tutti does not know");
        return name + reason switch
        {
            KvmExitReason.UNKNOWN => Invariant($": the processor left the guest for reason 0x{run->HardwareExitReason:x}, which KVM does not know"),
            KvmExitReason.FAIL_ENTRY => Invariant($": the processor did not enter the guest, reason 0x{run->FailEntry.HardwareEntryFailureReason:x}, on host CPU {run->FailEntry.Cpu}"),
            KvmExitReason.INTERNAL_ERROR => DescribeInternalError(ref run->Internal),
            KvmExitReason.EXCEPTION => Invariant($": exception {run->Exception.Exception}, error code 0x{run->Exception.ErrorCode:x}"),
            KvmExitReason.MEMORY_FAULT => Invariant($": no memory for guest address 0x{run->MemoryFault.Gpa:x}, 0x{run->MemoryFault.Size:x} bytes, flags 0x{run->MemoryFault.Flags:x}"),
            KvmExitReason.SYSTEM_EVENT => Invariant($": event {run->SystemEvent.Type}{DescribeWords(ref run->SystemEvent.Data, run->SystemEvent.Ndata)}"),
            _ => ": nothing in a PC of Tutti leads to it",
        };
    }

    private static string DescribeInternalError(ref KvmRun.InternalErrorExit error)
    {
        string name = error.Suberror switch
        {
            KvmRun.InternalErrorExit.KVM_INTERNAL_ERROR_EMULATION => "KVM could not emulate an instruction",
            2 => "exceptions came together that KVM can't deliver",
            3 => "the processor left the guest while it delivered an event",
            4 => "the processor left the guest for a reason that KVM does not expect",
            _ => Invariant($"suberror {error.Suberror}"),
        };
        return $": {name}{DescribeInstruction(ref error)}{DescribeWords(ref error.Data, error.Ndata)}";
    }

    /// <summary>Kernels from 5.14 add the bytes that they could not emulate: flag 1 of the first word, a length, the bytes.</summary>
    private static string DescribeInstruction(ref KvmRun.InternalErrorExit error)
    {
        if (error.Suberror != KvmRun.InternalErrorExit.KVM_INTERNAL_ERROR_EMULATION || error.Ndata < 3 || (error.Data[0] & 1) == 0)
        {
            return string.Empty;
        }

        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(((ReadOnlySpan<ulong>)error.Data)[1..3]);
        return ", instruction " + Convert.ToHexStringLower(bytes.Slice(1, Math.Min((int)bytes[0], 15)));
    }

    private static string DescribeWords(ref KvmRun.DataWords words, uint count)
    {
        if (count == 0)
        {
            return string.Empty;
        }

        ReadOnlySpan<ulong> data = ((ReadOnlySpan<ulong>)words)[..(int)Math.Min(count, 16)];
        return " (data " + string.Join(' ', data.ToArray().Select(word => word.ToString("x", CultureInfo.InvariantCulture))) + ")";
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
