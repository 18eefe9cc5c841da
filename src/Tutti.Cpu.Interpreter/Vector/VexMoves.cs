using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter;

/// <summary>
/// Whole-register loads and stores in plain C#: they are most of what compiled code does with YMM registers. Dst is the
/// register's number, Src the bytes, Aux is not 0 where the operand must lie on a multiple of them.
/// </summary>
// SAFETY for all handlers: register numbers are 0 to 15; memory goes through checked accessors with Src bytes.
internal static unsafe class VexMoves
{
    public static bool TrySet(in Instruction instruction, Op* op, AddressKind address)
    {
        if (instruction.Mnemonic is not (Mnemonic.Vmovups or Mnemonic.Vmovupd or Mnemonic.Vmovdqu or Mnemonic.Vlddqu
            or Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa
            or Mnemonic.Vmovntps or Mnemonic.Vmovntpd or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa))
        {
            return false;
        }

        bool stores = instruction.Op0Kind == OpKind.Memory;
        if (!stores && instruction.Op1Kind != OpKind.Memory)
        {
            return false;
        }

        Register register = stores ? instruction.Op1Register : instruction.Op0Register;
        op->Dst = (byte)VectorTranslator.VectorNumber(register);
        op->Src = (byte)register.GetSize();
        op->Aux = IsAligned(instruction.Mnemonic) ? (ushort)1 : (ushort)0;
        op->Handler = stores ? Stores(address) : Loads(address);
        return true;
    }

    /// <summary>Whether the memory operand must lie on a multiple of its size; so for none but these.</summary>
    public static bool IsAligned(Mnemonic mnemonic) => mnemonic is Mnemonic.Vmovaps or Mnemonic.Vmovapd or Mnemonic.Vmovdqa
        or Mnemonic.Vmovntps or Mnemonic.Vmovntpd or Mnemonic.Vmovntdq or Mnemonic.Vmovntdqa;

    private static delegate*<CpuState*, Op*, Op*> Loads(AddressKind address) => address switch
    {
        AddressKind.Flat => &Load<FlatAddress>,
        AddressKind.Long => &Load<LongAddress>,
        _ => &Load<SegmentedAddress>,
    };

    private static delegate*<CpuState*, Op*, Op*> Stores(AddressKind address) => address switch
    {
        AddressKind.Flat => &Store<FlatAddress>,
        AddressKind.Long => &Store<LongAddress>,
        _ => &Store<SegmentedAddress>,
    };

    private static Op* Load<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (VexOps.Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        if (!TAddress.TryGet(state, op, op->Src, false, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if (op->Aux != 0 && (linear & (ulong)(op->Src - 1)) != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        byte* memory = VectorMemory.Read(state, linear, op->Src);
        if (memory == null)
        {
            return Flow.Fault(state, op);
        }

        *(UInt128*)CpuState.Xmm(state, op->Dst) = *(UInt128*)memory;
        *(UInt128*)CpuState.YmmHighOf(state, op->Dst) = op->Src == 32 ? *(UInt128*)(memory + 16) : default;
        return op + 1;
    }

    private static Op* Store<TAddress>(CpuState* state, Op* op)
        where TAddress : struct, IAddress
    {
        if (VexOps.Unavailability(state) is var fault and >= 0)
        {
            return Flow.Raise(state, op, fault);
        }

        if (!TAddress.TryGet(state, op, op->Src, true, out ulong linear))
        {
            return Flow.Fault(state, op);
        }

        if (op->Aux != 0 && (linear & (ulong)(op->Src - 1)) != 0)
        {
            return Flow.Raise(state, op, ExceptionVector.GeneralProtection);
        }

        // SAFETY: two halves of 16 bytes, of which Src are written.
        UInt128* value = stackalloc UInt128[2];
        value[0] = *(UInt128*)CpuState.Xmm(state, op->Dst);
        value[1] = *(UInt128*)CpuState.YmmHighOf(state, op->Dst);
        return GuestAccess.WriteBytes(state, linear, (byte*)value, op->Src) ? op + 1 : Flow.Fault(state, op);
    }
}
