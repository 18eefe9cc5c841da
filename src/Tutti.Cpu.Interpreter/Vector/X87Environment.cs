using System.Runtime.CompilerServices;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// FNSTENV, FNSAVE, FLDENV, FRSTOR in their four formats. Source: Intel SDM volume 1, section 8.1.10.
/// The host works with the 28-byte protected-mode format: control, status and tag word, then pointers, each in 4 bytes.
/// </summary>
internal static unsafe class X87Environment
{
    /// <summary>In Op.Aux: real-address or virtual-8086 mode.</summary>
    public const ushort RealFormat = 1;

    private const int HostEnvironment = 28;
    private const int Registers = 80;
    private const int LargestImage = HostEnvironment + Registers;

    /// <summary>FNSTENV (then masks all exceptions) or FNSAVE (then initializes).</summary>
    public static Op* Store(CpuState* state, Op* op)
    {
        if (X87Ops.Unavailability(state, 0) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        int size = op->Src;
        if (!AnyAddress.TryGet(state, op, size, true, out ulong linear) || !VectorMemory.ProbeWrite(state, linear, size))
        {
            return Flow.Fault(state, op);
        }

        bool saves = size >= Registers;
        // SAFETY: images have room for the largest environment with registers; sizes come from the form, not from the guest.
        byte* host = stackalloc byte[LargestImage];
        byte* guest = stackalloc byte[LargestImage];
        X87Ops.Invoke(state, op->Imm, host);
        int length = PutEnvironment(state, host, guest, saves ? size - Registers : size, op->Aux);
        if (saves)
        {
            Unsafe.CopyBlockUnaligned(guest + length, host + HostEnvironment, Registers);
            X87Ops.SetPointers(state, 0, 0, 0);
        }

        X87Ops.FinishWrite(state, linear, guest, size);
        return op + 1;
    }

    /// <summary>FLDENV or FRSTOR.</summary>
    public static Op* Load(CpuState* state, Op* op)
    {
        if (X87Ops.Unavailability(state, X87Ops.Waits) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        int size = op->Src;
        byte* host = stackalloc byte[LargestImage];
        byte* guest = stackalloc byte[LargestImage];
        if (!AnyAddress.TryGet(state, op, size, false, out ulong linear) || !GuestAccess.ReadBytes(state, linear, guest, size))
        {
            return Flow.Fault(state, op);
        }

        bool restores = size >= Registers;
        int length = restores ? size - Registers : size;
        Unsafe.InitBlockUnaligned(host, 0, HostEnvironment);
        int step = length == HostEnvironment ? 4 : 2;
        for (int i = 0; i < 3; i++)
        {
            *(ushort*)(host + (4 * i)) = *(ushort*)(guest + (step * i));
        }

        if (restores)
        {
            Unsafe.CopyBlockUnaligned(host + HostEnvironment, guest + length, Registers);
        }

        X87Ops.Invoke(state, op->Imm, host);
        TakePointers(state, guest, length, op->Aux);
        return op + 1;
    }

    /// <summary>Writes the environment in the guest's format; gives its length.</summary>
    private static int PutEnvironment(CpuState* state, byte* host, byte* guest, int length, ushort format)
    {
        uint opcode = *(ushort*)(state->FxArea + X87Ops.FxOpcode) & 0x7FFu;
        ulong instruction = *(ulong*)(state->FxArea + X87Ops.FxInstruction);
        ulong data = *(ulong*)(state->FxArea + X87Ops.FxData);
        bool real = format == RealFormat;
        uint linearInstruction = (uint)instruction + ((uint)(ushort)(instruction >> 32) << 4);
        uint linearData = (uint)data + ((uint)(ushort)(data >> 32) << 4);
        if (length == HostEnvironment)
        {
            uint* words = (uint*)guest;
            for (int i = 0; i < 3; i++)
            {
                words[i] = ((uint*)host)[i];
            }

            words[3] = real ? linearInstruction & 0xFFFF : (uint)instruction;
            words[4] = real ? ((linearInstruction >> 16) << 12) | opcode : (ushort)(instruction >> 32) | (opcode << 16);
            words[5] = real ? linearData & 0xFFFF : (uint)data;
            words[6] = real ? (linearData >> 16) << 12 : 0xFFFF_0000 | (ushort)(data >> 32);
            return length;
        }

        ushort* halves = (ushort*)guest;
        for (int i = 0; i < 3; i++)
        {
            halves[i] = *(ushort*)(host + (4 * i));
        }

        halves[3] = (ushort)(real ? linearInstruction : instruction);
        halves[4] = (ushort)(real ? ((linearInstruction >> 4) & 0xF000) | opcode : instruction >> 32);
        halves[5] = (ushort)(real ? linearData : data);
        halves[6] = (ushort)(real ? (linearData >> 4) & 0xF000 : data >> 32);
        return length;
    }

    private static void TakePointers(CpuState* state, byte* guest, int length, ushort format)
    {
        bool real = format == RealFormat;
        uint opcode;
        ulong instruction;
        ulong data;
        if (length == HostEnvironment)
        {
            uint* words = (uint*)guest;
            opcode = real ? words[4] : words[4] >> 16;
            instruction = real ? (ushort)words[3] | ((words[4] >> 12) << 16) : words[3] | ((ulong)(ushort)words[4] << 32);
            data = real ? (ushort)words[5] | ((words[6] >> 12) << 16) : words[5] | ((ulong)(ushort)words[6] << 32);
        }
        else
        {
            // The protected 16-bit format has no room for FOP.
            ushort* halves = (ushort*)guest;
            opcode = real ? halves[4] : 0u;
            instruction = halves[3] | (real ? (ulong)(halves[4] >> 12) << 16 : (ulong)halves[4] << 32);
            data = halves[5] | (real ? (ulong)(halves[6] >> 12) << 16 : (ulong)halves[6] << 32);
        }

        X87Ops.SetPointers(state, (ushort)(opcode & 0x7FF), instruction, data);
    }
}
