using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>Instructions with random operands. None leaves a flag undefined: the host's and the interpreter's would differ.</summary>
internal sealed partial class KernelProgramBuilder
{
    private const int Attempts = 20;

    private static readonly string[] Groups = ["Alu", "Shift", "MulDiv", "Move", "Condition", "Bit", "Bmi"];

    private static readonly Code[] GeneralForms =
        [.. FormTable.All(64).Where(form => Groups.Contains(form.Group) && IsWanted(form.Code)).Select(form => form.Code)];

    private static readonly Code[] StackForms =
        [.. FormTable.All(64).Where(form => form.Group == "Stack" && form.Code.Mnemonic() is Mnemonic.Push or Mnemonic.Pop or Mnemonic.Leave or Mnemonic.Enter).Select(form => form.Code)];

    private static readonly Code[] VectorForms =
        [.. FormTable.All(64).Where(form => form.Group == FormTable.Vector && IsWanted(form.Code)).Select(form => form.Code)];

    private static readonly Code[] X87Forms =
    [
        Code.Fld_m64fp, Code.Fld_m32fp, Code.Fstp_m64fp, Code.Fst_m32fp, Code.Fld1, Code.Fldz, Code.Fadd_st0_sti, Code.Fmul_st0_sti, Code.Fxch_st0_sti,
        Code.Fild_m64int, Code.Fistp_m64int, Code.Fstp_sti, Code.Fnstsw_AX, Code.Fnstcw_m2byte, Code.Fchs, Code.Fcomi_st0_sti, Code.Fninit, Code.Fld_m80fp,
        Code.Fstp_m80fp, Code.Fldcw_m2byte, Code.Ldmxcsr_m32, Code.Stmxcsr_m32, Code.Emms,
    ];

    private static readonly Code[] StringForms =
    [
        Code.Movsb_m8_m8, Code.Movsd_m32_m32, Code.Movsq_m64_m64, Code.Stosb_m8_AL, Code.Stosd_m32_EAX, Code.Stosq_m64_RAX,
        Code.Lodsb_AL_m8, Code.Lodsq_RAX_m64, Code.Scasb_AL_m8, Code.Cmpsb_m8_m8, Code.Cmpsq_m64_m64,
    ];

    private static readonly Code[] ShortJumps =
    [
        Code.Jo_rel8_64, Code.Jno_rel8_64, Code.Jb_rel8_64, Code.Jae_rel8_64, Code.Je_rel8_64, Code.Jne_rel8_64, Code.Jbe_rel8_64, Code.Ja_rel8_64,
        Code.Js_rel8_64, Code.Jns_rel8_64, Code.Jp_rel8_64, Code.Jnp_rel8_64, Code.Jl_rel8_64, Code.Jge_rel8_64, Code.Jle_rel8_64, Code.Jg_rel8_64,
    ];

    private readonly InstructionInfoFactory _information = new();
    private readonly Encoder _trial = Encoder.Create(64, new StreamCodeWriter(Stream.Null));

    private static bool IsWanted(Code code)
    {
        return code.Mnemonic() is not (Mnemonic.Std or Mnemonic.Clflush or Mnemonic.Shld or Mnemonic.Shrd)
            && code is not Code.Bswap_r16 && !code.ToString().Contains("moffs", StringComparison.Ordinal);
    }

    /// <summary>Whether no flag is left undefined. It may depend on a constant that a shift has for its count.</summary>
    private static bool DefinesItsFlags(in Instruction instruction)
    {
        // Processors clear AF in logic operations, whatever the manuals say.
        bool isLogic = instruction.Mnemonic is Mnemonic.And or Mnemonic.Or or Mnemonic.Xor or Mnemonic.Test;
        return (instruction.RflagsUndefined & ~(isLogic ? RflagsBits.AF : RflagsBits.None)) == RflagsBits.None
            && UndefinedResults.OverflowOfRotation(instruction) == 0;
    }

    private void AddForm(Code[] forms)
    {
        var encoder = new FormEncoder(_random, 64);
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            EncodedForm? form = encoder.Encode(_random.Pick(forms));
            if (form == null)
            {
                continue;
            }

            // The assembler takes an instruction with an address for a label.
            Instruction instruction = form.Instruction;
            instruction.IP = 0;
            SetMemory(ref instruction);
            if (DefinesItsFlags(instruction) && !WritesKept(instruction) && _trial.TryEncode(instruction, 0, out _, out _))
            {
                _code.AddInstruction(instruction);
                return;
            }
        }

        _code.nop();
    }

    private void SetMemory(ref Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory && instruction.Mnemonic != Mnemonic.Xlatb)
            {
                SetOperand(ref instruction);
                return;
            }
        }
    }

    private void SetOperand(ref Instruction instruction)
    {
        bool isVector = instruction.IsVsib;
        instruction.SegmentPrefix = _random.Percent(5) ? _random.Percent(50) ? Register.FS : Register.GS : Register.None;
        if (!isVector)
        {
            instruction.MemoryIndex = Register.None;
            instruction.MemoryIndexScale = 1;
        }

        long displacement = _random.Below(10) switch
        {
            < 6 => 8 * _random.Between(-8, 8),
            < 8 => _random.Between(-64, 64),
            8 => _random.Between(-PageSize, PageSize),
            _ => 0,
        };
        int kind = _random.Below(100);
        if (kind < 4)
        {
            // Absolute: a doubleword that is extended by its sign reaches both halves.
            instruction.MemoryBase = Register.None;
            ulong address = _random.Percent(50) ? UserArena : KernelArena;
            displacement = (long)(address + (ulong)_random.Below(ArenaPages * PageSize));
            displacement = instruction.SegmentPrefix != Register.None ? _random.Below(256) : displacement;
        }
        else if (kind < 8)
        {
            instruction.MemoryBase = Register.RSP;
        }
        else if (kind < 11)
        {
            // RAX and others may point at code.
            instruction.MemoryBase = Register.RDX;
        }
        else
        {
            instruction.MemoryBase = _random.Pick(_pointers).Value;
            if (!isVector && _random.Percent(10))
            {
                instruction.MemoryIndex = _counter.Value;
                instruction.MemoryIndexScale = 1 << _random.Below(4);
            }
        }

        instruction.MemoryDisplacement64 = (ulong)displacement;
        instruction.MemoryDisplSize = instruction.MemoryBase == Register.None ? 4 : 8;
    }

    /// <summary>Whether pointers or the counter would be changed, or RSP where exceptions need it.</summary>
    private bool WritesKept(in Instruction instruction)
    {
        foreach (UsedRegister used in _information.GetInfo(instruction).GetUsedRegisters())
        {
            if (used.Access is OpAccess.Read or OpAccess.CondRead or OpAccess.NoMemAccess)
            {
                continue;
            }

            Register full = used.Register.GetFullRegister();
            bool isStack = full == Register.RSP && (!instruction.IsStackInstruction || instruction.Mnemonic is Mnemonic.Leave || instruction.Op0Register == Register.RSP)
                && !(image.UsesStackTable && _random.Percent(10));
            if (isStack || full == _counter.Value || (_pointers.Any(pointer => pointer.Value == full) && _random.Percent(95)))
            {
                return true;
            }
        }

        return false;
    }

    private static Instruction Strings(Code code) => code switch
    {
        Code.Movsb_m8_m8 => Instruction.CreateMovsb(64),
        Code.Movsd_m32_m32 => Instruction.CreateMovsd(64),
        Code.Movsq_m64_m64 => Instruction.CreateMovsq(64),
        Code.Stosb_m8_AL => Instruction.CreateStosb(64),
        Code.Stosd_m32_EAX => Instruction.CreateStosd(64),
        Code.Stosq_m64_RAX => Instruction.CreateStosq(64),
        Code.Lodsb_AL_m8 => Instruction.CreateLodsb(64),
        Code.Lodsq_RAX_m64 => Instruction.CreateLodsq(64),
        Code.Scasb_AL_m8 => Instruction.CreateScasb(64),
        Code.Cmpsb_m8_m8 => Instruction.CreateCmpsb(64),
        _ => Instruction.CreateCmpsq(64),
    };
}
