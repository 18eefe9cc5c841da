using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Model-specific registers that only keep what was written, in the bits that may be. Sources: see <see cref="Msr"/>.</summary>
internal sealed class PlainRegisters
{
    private const ulong WriteBackEverywhere = 0x0606_0606_0606_0606;

    /// <summary>MTRRdefType: enabled (11), fixed ranges enabled (10), write-back.</summary>
    private const ulong MtrrDefTypeAfterFirmware = 0xC06;

    /// <param name="Number">The register's number; the table is sorted by it.</param>
    /// <param name="Reset">Value after power-on.</param>
    /// <param name="Writable">Bits that may be written; another bit set raises #GP(0).</param>
    /// <param name="MemoryTypes">The value is eight MTRR memory types.</param>
    /// <param name="IgnoresWrites">Whatever is written, the value stays and nothing faults.</param>
    private readonly record struct PlainMsr(uint Number, ulong Reset, ulong Writable, bool MemoryTypes = false, bool IgnoresWrites = false);

    private static readonly PlainMsr[] Table = MakeTable();

    private readonly ulong[] _values = new ulong[Table.Length];

    /// <summary>The value of a register; false where it is none of these.</summary>
    public bool TryRead(uint number, out ulong value)
    {
        int index = Find(number);
        value = index >= 0 ? _values[index] : 0;
        return index >= 0;
    }

    public void Reset()
    {
        for (int i = 0; i < Table.Length; i++)
        {
            _values[i] = Table[i].Reset;
        }
    }

    public void Export(Dictionary<uint, ulong> registers)
    {
        for (int i = 0; i < Table.Length; i++)
        {
            registers[Table[i].Number] = _values[i];
        }
    }

    /// <summary>
    /// Registers that AMD processors have, or had, and that guests read because the processor is one: as KVM has most of them, they read as 0
    /// and take whatever is written without an effect. No last branches are recorded and BTF steps no branches (DebugControl); no
    /// memory is system management's. LS_CFG is none of them: a kernel that finds it believes that it switches speculation off there.
    /// </summary>
    private static ReadOnlySpan<uint> SilentRegisters =>
    [
        Msr.DebugControl, Msr.PatchLoader, Msr.InterruptPending, Msr.MmioConfigurationBase, Msr.SmmAddress, Msr.SmmMask, Msr.HostSaveArea,
        Msr.InstructionCacheConfiguration, Msr.DataCacheConfiguration, Msr.TableWalkConfiguration,
        Msr.BusUnitConfiguration2, Msr.ExecutionConfiguration,
    ];

    private static PlainMsr[] MakeTable()
    {
        // This machine has no firmware that programs the MTRRs, so processors begin with them as firmware leaves them:
        // write-back, but for the legacy video memory and the gap below 4 GiB where devices are.
        List<PlainMsr> registers =
        [
            new(Msr.MtrrFix64K00000, WriteBackEverywhere, ulong.MaxValue, true),
            new(Msr.MtrrFix16K80000, WriteBackEverywhere, ulong.MaxValue, true),
            new(Msr.MtrrFix16KA0000, 0, ulong.MaxValue, true),
            new(Msr.MtrrDefType, MtrrDefTypeAfterFirmware, 0xCFF),
            new(Msr.Syscfg, 0, 0x00F4_0000),
            // TscFreqSel: the TSC counts at the rate of the P0 state.
            new(Msr.Hwcr, Msr.HwcrTscFreqSel, ulong.MaxValue >> 32),
            new(Msr.TopMem, 0, ModelSpecificRegisters.PhysicalMask),
            // Linux wants to set a bit of its own in there and reads it back.
            new(Msr.NorthBridgeConfiguration, 0, ulong.MaxValue),
            new(Msr.TopMem2, 0, ModelSpecificRegisters.PhysicalMask),
            new(Msr.OsvwIdLength, 0, 0),
            new(Msr.OsvwStatus, 0, 0),
            new(Msr.DecodeConfiguration, 2, ulong.MaxValue),
            // No banks, and so no machine checks. Kernels read both without a look at CPUID.
            new(Msr.MachineCheckCapabilities, 0, 0),
            new(Msr.MachineCheckStatus, 0, 0, IgnoresWrites: true),
            new(Msr.P5MachineCheckAddress, 0, 0),
            new(Msr.P5MachineCheckType, 0, 0),
            new(Msr.VirtualMachineControl, Msr.VirtualMachineControlSvmDisabled, 0, IgnoresWrites: true),
            // 100 MHz steps of family 0Fh, by which Linux tells whether the register is there.
            new(Msr.ClockControl, 0x2000_0000, 0, IgnoresWrites: true),
        ];
        foreach (uint number in SilentRegisters)
        {
            registers.Add(new(number, 0, 0, IgnoresWrites: true));
        }

        for (uint i = 0; i < Msr.PerfCounterCount; i++)
        {
            // They count nothing and keep nothing: a kernel that writes one and reads it back sees that, and does without.
            registers.Add(new(Msr.PerfEventSelect0 + i, 0, 0, IgnoresWrites: true));
            registers.Add(new(Msr.PerfCounter0 + i, 0, 0, IgnoresWrites: true));
            registers.Add(new(Msr.LastBranchFrom + i, 0, 0));
            registers.Add(new(Msr.IoRangeBase0 + i, 0, ModelSpecificRegisters.PhysicalMask));
        }

        for (uint i = 0; i < 8; i++)
        {
            bool gap = i == 0;
            registers.Add(new(Msr.MtrrPhysBase0 + (2 * i), gap ? 0xC000_0000UL : 0, (ModelSpecificRegisters.PhysicalMask & ~0xFFFUL) | 0xFF));
            registers.Add(new(Msr.MtrrPhysBase0 + (2 * i) + 1, gap ? (ModelSpecificRegisters.PhysicalMask & ~0x3FFF_FFFFUL) | 0x800 : 0, (ModelSpecificRegisters.PhysicalMask & ~0xFFFUL) | 0x800));
            registers.Add(new(Msr.MtrrFix4KC0000 + i, WriteBackEverywhere, ulong.MaxValue, true));
        }

        PlainMsr[] table = [.. registers];
        Array.Sort(table, static (a, b) => a.Number.CompareTo(b.Number));
        return table;
    }

    private static int Find(uint number)
    {
        int low = 0;
        int high = Table.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (Table[middle].Number == number)
            {
                return middle;
            }

            if (Table[middle].Number < number)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return -1;
    }

    public bool TryWrite(uint number, ulong value)
    {
        int index = Find(number);
        if (index < 0)
        {
            return false;
        }

        if (Table[index].IgnoresWrites)
        {
            return true;
        }

        if ((value & ~Table[index].Writable) != 0)
        {
            return false;
        }

        bool types = Table[index].MemoryTypes;
        for (int i = 0; types && i < 64; i += 8)
        {
            // Bits 3 and 4 are AMD's extension (RdMem, WrMem); the type proper is in the low three.
            if ((byte)(value >> i) is not (0 or 1 or 4 or 5 or 6))
            {
                return false;
            }
        }

        _values[index] = value;
        return true;
    }
}
